# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 record` as a person starts it, beside a publisher."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from live_system import Molmoact2
from rclpy.executors import SingleThreadedExecutor
from recording_graph import Graph
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import JointState

from molmoact2_contract.qos import SENSOR_PUBLISH
from molmoact2_policy.bags.bag import Bag
from molmoact2_policy.bags.repair import repair

DOMAIN = 101
PATIENCE = 60.0    # [s]; only a failing test waits that long


class Talker:
    """Publishes joint states, numbered, to whoever listens."""

    def __init__(self):
        self._graph = Graph(DOMAIN)
        self._publisher = self._graph.publisher.create_publisher(JointState, "joint_states", SENSOR_PUBLISH)
        self._executor = SingleThreadedExecutor(context=self._graph.publisher.context)
        self._executor.add_node(self._graph.publisher)
        self.sent = 0

    def talk_until(self, condition) -> None:
        clock = self._graph.publisher.get_clock()
        end = clock.now().nanoseconds + PATIENCE * 1e9
        while not condition():
            assert clock.now().nanoseconds < end, "it did not come"
            if self._publisher.get_subscription_count():
                self._publisher.publish(JointState(position=[float(self.sent)]))
                self.sent += 1
            self._executor.spin_once(timeout_sec=0.01)

    def close(self) -> None:
        self._executor.shutdown()
        self._graph.close()


@pytest.fixture
def talker():
    talker = Talker()
    yield talker
    talker.close()


@pytest.fixture
def record():
    begun = []

    def begin(*arguments: str) -> Molmoact2:
        begun.append(Molmoact2(DOMAIN, "record", *arguments))
        return begun[-1]

    yield begin
    for command in begun:
        command.process.kill()
        command.process.wait()


def positions(path: Path) -> list[float]:
    with AnyReader([path]) as reader:
        return [reader.deserialize(raw, c.msgtype).position[0] for c, _, raw in reader.messages()]


def test_ctrl_c_completes_the_bag_and_what_is_in_it_is_told(talker, record, tmp_path):
    command = record("--out", str(tmp_path / "bag"), "joint_states", "--system", "so101_sim")
    talker.talk_until(lambda: any(" messages  " in line and "dropped 0" in line for line in command.lines[2:]))
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 0
    found = positions(tmp_path / "bag")
    assert found == [found[0] + k for k in range(len(found))] and len(found) > 10
    assert any(line.split() == [str(len(found)), "/joint_states"] for line in command.lines)
    with Bag(tmp_path / "bag") as bag:
        assert bag.problems == [] and bag.facts["system"] == "so101_sim" and bag.dropped == {"/joint_states": 0}


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_kill_9_of_the_recorder_leaves_a_bag_that_rosbags_reads(talker, record, tmp_path, storage):
    path = tmp_path / "bag"
    command = record("--out", str(path), "--storage", storage, "joint_states", "--system", "so101_sim")
    talker.talk_until(lambda: command.lines and committed(path) > 20)
    before = committed(path)
    keeper = keeper_of(command.process.pid)
    command.process.kill()
    command.process.wait()
    talker.talk_until(lambda: not os.path.exists(f"/proc/{keeper}"))    # it completes the bag, and ends
    found = positions(path)
    assert found == [found[0] + k for k in range(len(found))] and len(found) >= before
    with Bag(path) as bag:
        assert bag.counts["/joint_states"] == len(found)
        assert any("its recorder was killed" in problem for problem in bag.problems)
    assert repair(path) == []


def committed(path: Path) -> int:
    """Messages that a reader finds now."""
    if not (path / "metadata.yaml").exists() or list(path.glob("*-journal")):
        return 0
    with AnyReader([path]) as reader:
        return reader.message_count


def keeper_of(pid: int) -> int:
    out = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return next(int(line.split()[0]) for line in out.splitlines() if "bags.keeper" in line)


def test_a_duration_ends_it(talker, record, tmp_path):
    command = record("--out", str(tmp_path / "bag"), "--duration", "1", "joint_states", "--system", "so101_sim")
    talker.talk_until(lambda: command.process.poll() is not None)
    assert command.end() == 0 and (tmp_path / "bag/metadata.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--storage", "paper"], "storage 'paper' is not known; there are: mcap, sqlite3"),
        (["--images", "gif"], "images 'gif' is not known; there are: exact, lossless, jpeg"),
        (["--system", "nowhere"], "nowhere: no such file, and no such name in config/systems"),
        (["--system", "so101_sim", "--contract", "so101"], "exclude each other"),
        (["--jpeg-quality", "0"], "must be 1"),
        (["--out", "EXISTING"], "exists already; remove it or choose another path"),
        (["--out", "FILE/bag"], "cannot be created"),
        (["--repair", "EXISTING"], "there is nothing to repair"),
        (["/nothing/here"], "the type of /nothing/here is not known"),
    ],
)
def test_bad_input_is_named_and_gives_2(record, tmp_path, arguments, text):
    (tmp_path / "file").write_text("")
    places = {"EXISTING": str(tmp_path), "FILE/bag": str(tmp_path / "file/bag")}
    arguments = [places.get(argument, argument) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "bag")]
    command = record(*arguments)
    assert command.end() == 2
    assert any(line.startswith("error: ") and text in line for line in command.lines), command.lines
    assert not (tmp_path / "bag").exists()


def test_the_command_for_rosbag2_names_the_same_topics(record, tmp_path):
    command = record("--print-ros2-command", "--max-size", "500", "--max-seconds", "60", "--out", "run 1")
    assert command.end() == 0
    (line,) = command.lines
    assert line.startswith("ros2 bag record --storage mcap --output 'run 1' --max-bag-size 500000000")
    assert "--max-bag-duration 60" in line and "/policy/reasoning_trace" in line and "/front/image_raw" in line
