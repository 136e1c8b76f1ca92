# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The line of the demo over real DDS."""

import io

import pytest
from recording_graph import CONTRACT, Graph

from molmoact2_bringup.demo.live import LiveLine, Seen, live_line
from molmoact2_contract.qos import STATUS
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus


@pytest.fixture
def graph():
    graph = Graph(domain=87)
    yield graph
    graph.close()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_says_what_is_known_and_no_more():
    assert live_line(0.0, 30.0, Seen()) == (
        f"{'░' * 12}  0.0/30 s  chunks 0  latency p50 –  refreshed –  controller silent"
    )
    seen = Seen(chunks=12, latency_p50=0.412, refreshed=(23, 100), states={"arm": "following"})
    assert live_line(15.0, 30.0, seen) == (
        f"{'█' * 6}{'░' * 6} 15.0/30 s  chunks 12  latency p50 0.41 s  refreshed 23/100  controller following"
    )


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "no terminal"])
def test_the_live_line_follows_the_graph(graph, stream, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    live = LiveLine(graph.recorder, CONTRACT, 30.0, stream)
    policy = graph.publisher.create_publisher(PolicyStatus, "policy/status", STATUS)
    arm = graph.publisher.create_publisher(ControllerStatus, "arm/status", STATUS)
    policy.publish(PolicyStatus(chunks=40, latency_p50=0.5))
    graph.spin_until(lambda: live._seen.latency_p50)
    policy.publish(PolicyStatus(chunks=43, latency_p50=0.5))
    arm.publish(ControllerStatus(state=ControllerStatus.HOLDING))
    graph.spin_until(lambda: live._seen.chunks and live._seen.states)
    live.update()
    live.update()
    live.end()
    live.end()
    text = stream.getvalue()
    assert text.endswith("holding\n")
    assert "chunks 3  latency p50 0.50 s  refreshed –  controller holding" in text
    assert ("\r" in text) == stream.isatty(), "no control characters outside a terminal"
    assert text.count("chunks 3") == (2 if stream.isatty() else 1)
