# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A server of the real kind on a port of its own, and a client that shares no code with it."""

import base64
import http.client
import json
import threading

import numpy as np

from molmoact2_model.serving.app import App
from molmoact2_model.serving.metrics import Metrics
from molmoact2_model.serving.server import HttpServer, listen
from molmoact2_model.serving.service import ServeOptions, Service

PATIENCE = 60.0    # seconds; only a failing test waits that long
FINGERPRINT = "f" * 64


class Served:
    """`molmoact2 serve` in this process."""

    def __init__(self, policy, token=None, port=0, read_within=15.0, fingerprint=FINGERPRINT, **options):
        self.service = Service(policy, fingerprint, ServeOptions(**{"tag": "tiny_arm", "num_steps": 2, **options}))
        service = self.service
        metrics = Metrics(policy.name, fingerprint, lambda: service.engine.waiting, lambda: service.session_count)
        listener = listen("127.0.0.1", port)
        self.port = listener.getsockname()[1]
        self._server = HttpServer(service, App(service, metrics, token, read_within), listener)
        self.url = self._server.url
        self._server.start()

    def close(self):
        self._server.stop()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method, path, fields=None, body=None, **headers):
        """Status and fields of an answer."""
        connection = self.connect()
        try:
            connection.request(method, path, pack(fields) if fields is not None else body, headers)
            answer = connection.getresponse()
            data = answer.read()
            is_json = answer.headers["content-type"] == "application/json"
            return answer.status, unpack(data) if is_json else data.decode()
        finally:
            connection.close()


class Held:
    """The engine is busy until `release`."""

    def __init__(self, engine):
        began, self._end = threading.Event(), threading.Event()

        def work():
            began.set()
            assert self._end.wait(PATIENCE)

        self.done = engine.submit(None, -1, work, PATIENCE)
        assert began.wait(PATIENCE)

    def release(self):
        self._end.set()
        self.done.result(PATIENCE)


def pack(value):
    """As the package json_numpy does it."""

    def entry(array):
        return {
            "__numpy__": base64.b64encode(np.ascontiguousarray(array).data).decode(), "dtype": array.dtype.str,
            "shape": array.shape,
        }

    return json.dumps(value, default=entry).encode()


def unpack(data):
    def array(found):
        if "__numpy__" not in found:
            return found
        raw = np.frombuffer(base64.b64decode(found["__numpy__"]), np.dtype(found["dtype"]))
        return raw.reshape(found["shape"]) if found["shape"] else raw[0]

    return json.loads(data, object_hook=array)
