# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""An arm of servos with lag, and a rig that drives a controller of it by two clocks."""

from pathlib import Path

import numpy as np

from arm_controller.chunk import Chunk
from arm_controller.controller import ArmController
from arm_controller.driver import ArmDriver, ArmState, DriverError
from arm_controller.operating import Operator

CONTRACT = Path(__file__).resolve().parents[4] / "config/embodiments/so101.yaml"
TICK_NS = 10_000_000
WAIT = 50    # ticks; longer than the chunks of tests are old
BRAKING = 1.2    # of the acceleration limit: it is met at points a setpoint apart, and may be passed between them
START_NS = 1_800_000_000_000_000_000


class ServoArm(ArmDriver):
    """An arm whose joints follow their setpoint with a first-order lag, read at a clock that the test advances. Its
    last joint is a gripper."""

    real = False

    def __init__(self, joints: int, start: np.ndarray):
        self.positions, self.goal = start.copy(), start.copy()
        self.now_ns = START_NS
        self.sent: list[np.ndarray] = []
        self.failure = ""
        self.stuck = self.frozen = False
        self.push: np.ndarray | None = None    # by a hand, in each reading; None where no hand guides the arm
        self.stale_ns = 0
        self.connected = False
        self.stopped_itself = ""    # until it recovers
        self.recoveries = 0
        self.cube = 0.0    # how far open what is between the jaws keeps them

    def connect(self) -> None:
        self.connected = True

    def read(self) -> ArmState:
        if self.failure or self.stopped_itself:
            raise DriverError(self.failure or self.stopped_itself)
        if self.stuck:    # against something: its encoders tremble
            self.positions = self.positions + 1e-6 * (-1) ** len(self.sent)
        elif self.push is not None:
            self.positions = self.positions + self.push
        elif not self.frozen:
            self.positions = self.positions + 0.3 * (self.goal - self.positions)
        self.positions[-1] = max(self.positions[-1], self.cube)
        return ArmState(self.positions.copy(), self.now_ns - self.stale_ns)

    def write(self, positions: np.ndarray) -> None:
        if self.failure:
            raise DriverError(self.failure)
        self.goal, self.push = positions.copy(), None
        self.sent.append(positions.copy())

    def stop(self) -> None:
        self.goal, self.push = np.append(self.positions[:-1], self.goal[-1]), None

    def held(self) -> np.ndarray | None:
        return self.goal.copy() if self.push is None else None

    def guide(self) -> None:
        if self.failure:
            raise DriverError(self.failure)
        self.push = np.zeros_like(self.positions)

    def recover(self) -> None:
        if self.failure:
            raise DriverError(self.failure)
        self.recoveries += bool(self.stopped_itself)
        self.stopped_itself = ""

    def close(self) -> None:
        self.connected = False


class Rig:
    """A controller, its arm, and both clocks."""

    def __init__(self, contract, shadow: bool = False, peers: tuple[str, ...] = (), **options):
        self.contract = contract
        self.arm = contract.arm("arm")
        self.home = contract.values("home", self.arm.joints)
        self.driver = ServoArm(len(self.arm.joints), self.home)
        self.controller = ArmController(contract, self.arm, self.driver, shadow=shadow, peers=peers, **options)
        self.steady_ns, self.ros_ns = 5_000_000_000, START_NS
        self.began_ns = START_NS
        self.operator = Operator(self.controller, lambda: (self.steady_ns, self.ros_ns))
        self.tick()
        self.controller.hear_policy("process", "episode", self.steady)

    @property
    def steady(self) -> float:
        return self.steady_ns / 1e9

    @property
    def now(self) -> float:
        return self.ros_ns / 1e9

    def tick(self, count: int = 1, dt_ns: int = TICK_NS) -> None:
        for _ in range(count):
            self.steady_ns += dt_ns
            self.ros_ns += dt_ns
            self.driver.now_ns = self.ros_ns
            self.controller.tick(self.steady_ns, self.ros_ns)

    def arm_and_wait(self) -> None:
        """Arms, and waits until chunks that were observed a moment ago were observed after that."""
        self.operator.arm()
        self.tick(WAIT)
        self.began_ns = self.ros_ns

    def chunk(self, positions: np.ndarray, number: int = 1, age: float = 0.1, **changes) -> Chunk:
        values = {
            "chunk_id": number, "episode_id": "episode", "stamp": self.now - age, "dt": 1 / 30, "first_offset": 1.0,
            "horizon": len(positions), "joint_names": self.contract.joint_names,
            "positions": np.array(positions, float),
        }
        return Chunk(**{**values, **changes})

    def sway(self, amplitude: float = 0.3, speed: float = 3.0, waypoints: int = 30, age: float = 0.1) -> np.ndarray:
        """Waypoints of a sway of the first joint about home, a function of clock time, so that chunks agree."""
        times = self.now - age + (np.arange(waypoints) + 1) / 30
        positions = np.tile(self.home, (waypoints, 1))
        positions[:, 0] += amplitude * np.sin(speed * (times - self.began_ns / 1e9))
        return positions

    def accept(self, chunk: Chunk) -> str:
        return self.controller.accept(chunk, self.steady, self.now)

    @property
    def state(self) -> str:
        return self.controller.state.state.name


def sent_since(rig: Rig, mark: int) -> np.ndarray:
    """Setpoints (T, J) after the first `mark`."""
    return np.array(rig.driver.sent[mark:])
