# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The campaign's recorder, in its own process over real DDS, and whether it notices what a bag lacks."""

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import rclpy
from builtin_interfaces.msg import Time

from molmoact2_bringup.faults.recording import Recording, lost
from molmoact2_contract import load_contract
from molmoact2_contract.qos import CHUNK, TRACE
from molmoact2_msgs.msg import ActionChunk, ReasoningTrace
from molmoact2_policy.bags.bag import Bag, BagError

ROOT = Path(__file__).parents[3]
CONTRACT = load_contract(ROOT / "config/embodiments/so101.yaml")
DOMAIN = 69
CHUNKS, TRACES = "policy/action_chunk", "policy/reasoning_trace"
SECOND = 1_000_000_000


class Publishers:
    """Of chunks and traces, each acknowledged before the next is sent."""

    def __init__(self):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self._node = rclpy.create_node("policy", context=self._context)
        self._publishers = {
            CHUNKS: self._node.create_publisher(ActionChunk, CHUNKS, CHUNK),
            TRACES: self._node.create_publisher(ReasoningTrace, TRACES, TRACE),
        }

    def send(self, topic, seconds):
        publisher = self._publishers[topic]
        while publisher.get_subscription_count() == 0:
            time.sleep(0.02)
        message = {CHUNKS: ActionChunk, TRACES: ReasoningTrace}[topic]()
        message.header.stamp = Time(sec=seconds)
        publisher.publish(message)
        assert publisher.wait_for_all_acked()

    def close(self):
        self._node.destroy_node()
        self._context.shutdown()


@pytest.fixture(autouse=True)
def domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))


@pytest.fixture
def publishers():
    publishers = Publishers()
    yield publishers
    publishers.close()


def test_all_that_was_sent_is_in_the_bag_and_images_are_not_asked_for(publishers, tmp_path):
    with Recording(CONTRACT, tmp_path / "bag"):
        for seconds in (1, 2, 3):
            publishers.send(CHUNKS, seconds)
        publishers.send(TRACES, 3)
    heard = {CHUNKS: [1 * SECOND, 2 * SECOND, 3 * SECOND], TRACES: [3 * SECOND], "arm/status": []}
    seen, lacking = lost(tmp_path / "bag", heard)
    assert (seen, lacking) == ("3 of /policy/action_chunk, 1 of /policy/reasoning_trace, 0 of /arm/status", "")
    with Bag(tmp_path / "bag") as bag:
        assert not [topic for topic in bag.counts if topic.endswith("image_raw")]


def test_what_was_heard_and_is_not_in_the_bag_is_counted_also_one_of_two_alike(publishers, tmp_path):
    with Recording(CONTRACT, tmp_path / "bag"):
        publishers.send(CHUNKS, 1)
    _, lacking = lost(tmp_path / "bag", {CHUNKS: [SECOND, SECOND], TRACES: [SECOND, 2 * SECOND]})
    chunks, traces = lacking.split("; ")
    assert chunks == "1 messages of /policy/action_chunk are missing"
    assert traces == "2 messages of /policy/reasoning_trace are missing"


def test_a_bag_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "bag").mkdir()
    assert "cannot be read" in lost(tmp_path / "bag", {CHUNKS: []})[1]


def test_a_bag_that_cannot_be_begun_is_refused(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="exists already"), Recording(CONTRACT, tmp_path / "bag"):
        pass


def test_a_recorder_that_is_killed_is_named(tmp_path):
    recording = Recording(CONTRACT, tmp_path / "bag")
    with pytest.raises(BagError, match="its recorder ended with exit code -9"), recording:
        os.kill(recording._process.pid, signal.SIGKILL)
        recording._process.join()


BEGUN = """
    import os, sys
    from pathlib import Path
    from molmoact2_bringup.faults.recording import Recording
    from molmoact2_contract import load_contract
    if __name__ == "__main__":
        with Recording(load_contract(sys.argv[1]), Path(sys.argv[2])) as recording:
            print(recording._process.pid, flush=True)
            sys.stdin.read()
"""


def test_a_recorder_whose_campaign_is_killed_completes_its_bag_and_ends(publishers, tmp_path):
    script = tmp_path / "begun.py"
    script.write_text(textwrap.dedent(BEGUN))
    command = [sys.executable, str(script), str(CONTRACT.path), str(tmp_path / "bag")]
    campaign = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    recorder = os.pidfd_open(int(campaign.stdout.readline()))
    publishers.send(CHUNKS, 1)
    campaign.kill()
    campaign.wait()
    assert select.select([recorder], [], [], 60)[0], "the recorder goes on without its campaign"
    os.close(recorder)
    assert lost(tmp_path / "bag", {CHUNKS: [SECOND]})[1] == ""
