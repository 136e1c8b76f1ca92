# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What `--latency` means is the same in both modes: the policy's own runner, on the simulation's clock, gives as many
chunks as a fast attempt, and the arm stands as long."""

from types import SimpleNamespace

import numpy as np
import pytest
from cv_bridge import CvBridge
from sensor_msgs.msg import JointState

from arm_controller.chunk import Chunk
from arm_controller.controller import ArmController
from arm_controller.controller_state import State
from arm_controller.operating import Operator
from molmoact2_bringup.check.wanted import configuration_of
from molmoact2_bringup.evaluation import in_process
from molmoact2_bringup.evaluation.attempts import Condition
from molmoact2_bringup.evaluation.in_process import BEGIN_NS, EPISODE, Bench, Clock, SteppedArm
from molmoact2_bringup.evaluation.simulated import SimulatedScene
from molmoact2_contract import ContractError, load_contract, load_system
from molmoact2_model import Trace
from molmoact2_policy import runner
from molmoact2_policy.backend import Inference, Unanswered
from molmoact2_policy.continuity import Heard
from molmoact2_policy.matcher import MessageSet
from molmoact2_policy.messages import time_message
from mujoco_driver.render import Eyes
from mujoco_driver.scene import build
from mujoco_driver.tabletop import Tabletop
from mujoco_driver.world import home_of

TAG, SECONDS = "so101_sim_molmoact2_tiny", 6.0    # [s] of an attempt at picking


class Swaying:
    """A backend whose chunks sway the first joint from where the arm is. silent: inferences that give no action."""

    name, fingerprint = "swaying", ""

    def __init__(self):
        self.begun, self.silent, self.clock = [], (), None

    def infer(self, images, state, instruction, seed, prefix=None):
        self.begun.append(self.clock.seconds())
        if len(self.begun) in self.silent:
            raise Unanswered("not_decoded", "no")
        trace = Trace.__new__(Trace)
        object.__setattr__(trace, "refreshed", np.zeros(0, bool))
        object.__setattr__(trace, "warnings", ())
        chunk = np.repeat(np.asarray(state, np.float32)[None], 30, 0)
        chunk[:, 0] += 0.05 * np.sin(np.arange(1, 31) / 10)
        return Inference(chunk, trace, 10)

    def check_instruction(self, instruction): ...

    def reset(self, because="reset"): ...


class Watched(ArmController):
    """Notes when chunks are accepted, and whether it follows, tick by tick."""

    made: list = []

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.accepted_at, self.follows = [], []
        self.made.append(self)

    def accept(self, chunk, steady, now):
        refusal = super().accept(chunk, steady, now)
        if not refusal:
            self.accepted_at.append(now)
        return refusal

    def tick(self, steady_ns, ros_ns):
        super().tick(steady_ns, ros_ns)
        self.follows.append(self.state.state == State.FOLLOWING)


class Running:
    """The runner of a policy on the simulation's clock: while it waits, the arm goes on."""

    def __init__(self, bench: Bench, latency: float, monkeypatch):
        self._bench, self._bridge, self._over = bench, CvBridge(), BEGIN_NS + round(SECONDS * 1e9)
        bench.clock.now_ns = BEGIN_NS
        bench.table.reset(3)
        driver = SteppedArm(bench.table, bench.clock)
        self.controller = Watched(
            bench.contract, bench.contract.arm("arm"), driver, shadow=False, stopwatch=bench.clock.seconds
        )
        self._driver, self._newest, self._given = driver, None, 0
        monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=bench.clock.seconds))
        self.runner = runner.Runner(
            bench.contract, bench.tag, bench.backend, check_frozen=False, joint_topic="joint_states",
            min_period=bench.min_period, seed=1, chunk_ids=iter(range(1, 1000)), ros_now=lambda: bench.clock.now_ns,
            deliver=self._deliver, failed=pytest.fail, least_latency=latency,
        )
        self.runner._stop = self    # its clock too
        self._tick()
        Operator(self.controller, lambda: (bench.clock.now_ns, bench.clock.now_ns)).arm()
        self._newest = None    # what was seen before it was armed is no ground to move by
        self._tick()
        self.runner.set_instruction("pick up the green cube")
        self.runner._run(SimpleNamespace(wait=self._images, explain=lambda now_ns: "no image"))

    def is_set(self) -> bool:
        return self._bench.clock.now_ns >= self._over

    def wait(self, seconds: float) -> None:
        until = self._bench.clock.now_ns + seconds * 1e9
        while self._bench.clock.now_ns < until and not self.is_set():
            self._tick()

    def _tick(self) -> None:
        now = self._bench.clock.now_ns
        self.controller.hear_policy(EPISODE, EPISODE, now / 1e9)
        self._driver.advance(self.controller.period)
        now = self._bench.clock.now_ns
        self.controller.tick(now, now)
        self._hear()
        if self._newest is None or now - self._newest[0] >= self._bench.camera_period * 1e9:
            self._newest = now, self._bench.table.joints()

    def _hear(self) -> None:
        scheduler, last = self.controller.scheduler, self.controller.last
        heard = Heard("splice", scheduler.chunk_id, last.consumed, last.latency, self.controller.lag, last.refused_id)
        self.runner.continuity.hear("arm", heard, of_this_episode=True)

    def _images(self, timeout: float):
        until = self._bench.clock.now_ns + timeout * 1e9
        while self._newest[0] <= self._given:
            if self._bench.clock.now_ns >= until or self.is_set():
                return None
            self._tick()
        self._given, joints = self._newest
        stamp, contract = time_message(self._given), self._bench.contract
        images = []
        for name in self._bench.tag.cameras:
            image = self._bridge.cv2_to_imgmsg(np.full((48, 64, 3), 90, np.uint8), "rgb8")
            image.header.stamp, image.header.frame_id = stamp, contract.cameras[name].frame_id
            images.append(image)
        state = JointState(name=list(contract.joint_names), position=self._bench.table.to_ros(joints).tolist())
        state.header.stamp = stamp
        return MessageSet(tuple(images), (state,))

    def _deliver(self, outcome) -> None:
        ros, tag, now = outcome.actions, self._bench.tag, self._bench.clock.seconds()
        stamp = outcome.observation.stamp_ns / 1e9
        names = self._bench.contract.joint_names
        self.controller.accept(
            Chunk(outcome.chunk_id, EPISODE, stamp, tag.dt, tag.first_offset, len(ros), names, ros.ravel()), now, now
        )
        self._hear()


@pytest.fixture
def bench(monkeypatch):
    contract, scene = load_contract("so101"), build("so101_tabletop")
    home = home_of(contract, scene)
    table = Tabletop(scene, np.array([home[joint] for joint in scene.joints]))
    bench = Bench(contract, contract.norm_tag(TAG), Swaying(), table, Eyes(scene, (48, 64)), Clock(), "arm", 0.4)
    bench.backend.clock = bench.clock
    monkeypatch.setattr(in_process, "ArmController", Watched)
    monkeypatch.setattr(Watched, "made", [])
    yield bench
    bench.close()


def both(bench, latency, monkeypatch, silent=()):
    """Controllers and starts of inferences, fast and running."""
    found = []
    for way in (lambda: bench.attempt(Condition("pick", latency), 3, "green", "pick up the green cube"),
                lambda: Running(bench, latency, monkeypatch)):    # fmt: skip
        bench.backend.begun, bench.backend.silent = [], silent
        way()
        found.append((Watched.made[-1], np.array(bench.backend.begun)))
    return found


@pytest.mark.parametrize("latency", [0.3, 0.8])
def test_chunks_come_as_often_and_the_arm_stands_as_long_in_both_modes(bench, monkeypatch, latency):
    (fast, began_fast), (live, began_live) = both(bench, latency, monkeypatch)
    gaps = [np.diff(controller.accepted_at) for controller in (fast, live)]
    age = bench.camera_period + fast.period    # of an image when it is used, at most
    assert len(gaps[0]) >= 4 and all(gap.min() >= max(latency, bench.min_period) - age for gap in gaps)
    assert np.mean(gaps[0]) == pytest.approx(np.mean(gaps[1]), abs=0.02)
    assert np.mean(fast.follows) == pytest.approx(np.mean(live.follows), abs=0.02)
    assert len(began_fast) == pytest.approx(len(began_live), abs=1)


def test_an_inference_without_an_answer_lasts_as_long_in_both_modes(bench, monkeypatch):
    (_, fast), (_, live) = both(bench, 0.8, monkeypatch, silent=(2, 3))
    assert min(np.diff(fast).min(), np.diff(live).min()) >= 0.8 - bench.camera_period - 0.011
    assert np.diff(fast).mean() == pytest.approx(np.diff(live).mean(), abs=0.02)


def test_chunks_are_made_late_in_simulations_only():
    system = SimulatedScene(load_system("so101_sim")).under(Condition("touch", 0.8), "", 1)
    policy = system.process("policy")
    assert configuration_of(policy).least_latency == 0.8
    policy.parameters["simulation"] = False
    with pytest.raises(ContractError, match="least_latency is 0.8: it makes chunks late on purpose"):
        configuration_of(policy)
    policy.parameters.update(simulation=True, least_latency=1.0)
    with pytest.raises(ContractError, match="it must be less than 1 s"):
        configuration_of(policy)
