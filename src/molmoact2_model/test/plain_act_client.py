# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Clients of the two kinds of existing /act servers, written from the description of these alone.

The standard library and numpy; nothing of these packages, so that both sides cannot share a mistake.
"""

import base64
import json
import urllib.error
import urllib.request

import numpy as np


class Refused(Exception):
    """An answer that is none. status: of HTTP; the text is its field `error`."""

    def __init__(self, status, fields):
        super().__init__(fields["error"])
        self.status = status


class Plain:
    """What both kinds have: JSON over HTTP, with arrays as json_numpy writes them. url: without a path."""

    def __init__(self, url, timeout=60.0):
        self._url, self._timeout = url.rstrip("/"), timeout

    def get(self, path):
        return self._answer(urllib.request.Request(self._url + path))

    def post(self, path, payload):
        body = json.dumps(payload, default=encoded).encode()
        return self._answer(urllib.request.Request(self._url + path, body, {"Content-Type": "application/json"}))

    def _answer(self, request):
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return json.loads(answer.read(), object_hook=decoded)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, json.loads(error.read())) from None


class RobotClient(Plain):
    """Of a server for one robot. cameras: names of its images, in the order of the model's."""

    def __init__(self, url, cameras):
        super().__init__(url)
        self.cameras = tuple(cameras)

    def probe(self):
        return self.get("/act")

    def act(self, images, state, instruction, **more):
        """images: uint8 (H, W, 3) RGB. Actions float32 (N, D), and the server's milliseconds."""
        named = dict(zip(self.cameras, images, strict=True))
        answer = self.post("/act", {**named, "state": state, "instruction": instruction, **more})
        return answer["actions"], answer["dt_ms"]


class GeneralClient(Plain):
    """Of the general server, whose answers hold lists."""

    def health(self):
        return self.get("/health")

    def act(self, **fields):
        return self.post("/act", fields)

    def act_encoded(self, **fields):
        return self.post("/act", {"encoded": json.dumps(fields, default=encoded)})

    def reset(self, **fields):
        return self.post("/reset", fields)


def encoded(value):
    """An array as json_numpy has it; for json.dumps."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} is not sent")
    raw = base64.b64encode(value.tobytes()).decode("ascii")
    return {"__numpy__": raw, "dtype": np.lib.format.dtype_to_descr(value.dtype), "shape": list(value.shape)}


def decoded(found):
    """An array out of what json_numpy wrote; for json.loads."""
    if "__numpy__" not in found:
        return found
    raw = base64.b64decode(found["__numpy__"], validate=True)
    return np.frombuffer(raw, np.dtype(found["dtype"])).reshape(found["shape"])
