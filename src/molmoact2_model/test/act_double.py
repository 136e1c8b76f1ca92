# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A plain /act server, written to the description of the existing ones and sharing no code with ours.

kind "host": GET /act and /healthz, named images, json_numpy both ways. kind "general": no GET /act but GET /health,
`images`, answers of lists, and a connection that is closed after each answer without a word.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np


def encode(value: Any) -> bytes:
    def entry(array: Any) -> Any:
        return {"__numpy__": base64.b64encode(array.tobytes()).decode(), "dtype": array.dtype.str,
                "shape": list(array.shape)}

    return json.dumps(value, default=entry).encode()


def decode(data: bytes) -> Any:
    def array(found: dict) -> Any:
        if "__numpy__" in found:
            raw = np.frombuffer(base64.b64decode(found["__numpy__"]), found["dtype"])
            return raw.reshape(found["shape"]) if found["shape"] else raw[0]
        return found

    return json.loads(data, object_hook=array)


class Double:
    """actions: of the fields of a request, the answer's actions. answer: sees the fields that would be sent, and gives
    those that are, or bytes. pause [s]: before it answers; drip [s]: between the bytes of the answer. hang_up: closes
    instead of answering. token: asked of clients. more: fields of the answer to GET /act besides."""

    def __init__(self, kind="host", keys=("top_cam", "wrist_cam"), dim=7, tag="tiny_arm", port=0, token=""):
        self.kind, self.keys, self.dim, self.tag, self.token = kind, keys, dim, tag, token
        self.repo_id = "someone/MolmoAct2-Tiny"
        self.actions: Callable[[dict], np.ndarray] = lambda fields: np.zeros((30, dim), np.float32)
        self.answer: Callable[[dict], Any] = lambda answer: answer
        self.pause, self.drip, self.hang_up, self.status = 0.0, 0.0, False, 200
        self.requests: list[dict] = []
        self.probes = 0
        self.more: dict[str, Any] = {}
        self._connections: list[socket.socket] = []
        self.closed = threading.Event()
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                double._connections.append(self.connection)

            def do_GET(self) -> None:
                double._get(self)

            def do_POST(self) -> None:
                double._post(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:    # those under way end too, as when a process dies
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    # --- answers ------------------------------------------------------------------------------------------------------
    def _get(self, handler: Any) -> None:
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            self._send(handler, 401, {"detail": "Not authenticated"})
        elif handler.path == "/healthz" or self.kind == "general" and handler.path == "/health":
            self.probes += 1
            self._send(handler, 200, {"status": "ok", "default_norm_tag": self.tag, "n_obs_steps": 1})
        elif handler.path == "/act" and self.kind == "host":
            self.probes += 1
            about = {"status": "ok", "repo_id": self.repo_id, "norm_tag": self.tag, "device": "cuda:0",
                     "dtype": "torch.bfloat16", "num_cameras": len(self.keys), "state_dim": self.dim, **self.more}
            self._send(handler, 200, about)
        else:
            self._send(handler, 405 if handler.path == "/act" else 404, {"detail": "Method Not Allowed"})

    def _post(self, handler: Any) -> None:
        try:
            fields = decode(handler.rfile.read(int(handler.headers["Content-Length"])))
        except (OSError, ValueError):    # its client has gone, or the double is closed
            handler.close_connection = True
            return
        self.requests.append(fields)
        self.closed.wait(self.pause)
        if self.hang_up:
            handler.close_connection = True
            return
        try:
            images = fields["images"] if self.kind == "general" else [fields[key] for key in self.keys]
            assert all(np.asarray(image).ndim == 3 for image in images)
            assert np.asarray(fields["state"]).shape == (self.dim,) and isinstance(fields["instruction"], str)
        except (KeyError, AssertionError) as error:
            self._send(handler, 400, {"error": f"bad request: {error!r}"})
            return
        if self.status != 200:
            self._send(handler, self.status, {"error": "inference failed: out of memory"})
            return
        actions = self.actions(fields)
        if self.kind == "host":
            answer = {"actions": np.asarray(actions, np.float32), "dt_ms": 12.5}
        else:
            answer = {"style": "robot_action", "actions": np.asarray(actions).tolist(),
                      "action_shape": [1, *np.shape(actions)], "latency_ms": 12}
        self._send(handler, 200, self.answer(answer))

    def _send(self, handler: Any, status: int, answer: Any) -> None:
        body = answer if isinstance(answer, bytes) else encode(answer)
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        try:
            handler.end_headers()
            if self.drip:
                for byte in body:
                    handler.wfile.write(bytes([byte]))
                    if self.closed.wait(self.drip):
                        return
            handler.wfile.write(b"" if self.drip else body)
        except OSError:    # its client has gone
            handler.close_connection = True
        if self.kind == "general":
            handler.close_connection = True
