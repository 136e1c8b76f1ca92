# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The server's figures in Prometheus' form."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
HUNG_UP = "hung_up"


class Metrics:
    """Of one server. waiting, sessions: asked when somebody reads. Thread-safe."""

    def __init__(self, checkpoint: str, fingerprint: str, waiting: Callable[[], int], sessions: Callable[[], int]):
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "molmoact2_requests", "Requests by path and outcome: ok, or the code of the error.", ["path", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "molmoact2_act_seconds", "From the arrival of an answered POST /act to its answer [s].",
            buckets=SECONDS, registry=self._registry,
        )
        self._bytes = Counter("molmoact2_received_bytes", "Bytes of bodies that were read.", registry=self._registry)
        for name, text, ask in (
            ("molmoact2_waiting_requests", "Requests that wait for the engine.", waiting),
            ("molmoact2_sessions", "Sessions that are remembered.", sessions),
        ):
            Gauge(name, text, registry=self._registry).set_function(ask)
        facts = Info("molmoact2_checkpoint", "What is served.", registry=self._registry)
        facts.info({"name": checkpoint, "fingerprint": fingerprint})

    def count(self, path: str, outcome: str) -> None:
        self._requests.labels(path, outcome).inc()

    def received(self, count: int) -> None:
        self._bytes.inc(count)

    def answered(self, seconds: float) -> None:
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
