# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A Research 3 through franky, which brings libfranka 0.21: version 10 of the protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from arm_controller.driver import DriverError

from .seen import Seen
from .session import END_WITHIN, ArmSession


class Research3Session(ArmSession):
    robot = "Franka Research 3"
    lower = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])
    upper = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])
    _library: ModuleType

    def _load(self) -> None:
        try:
            import franky
        except ImportError as error:
            raise DriverError(
                f"package franky-control is missing or does not load ({error}); install it: "
                "pip install franky-control==2.0.0"
            ) from error
        self._library = franky

    def _dial(self) -> Any:
        config = self._library.RealtimeConfig
        realtime = config.Enforce if self._options.realtime == "enforce" else config.Ignore
        return self._library.Robot(self._options.host, realtime_config=realtime)

    def _drop(self) -> None:
        pass    # it ends with its object

    def _state(self) -> Seen:
        state = self._robot.state
        return Seen(
            state.time.to_msec(), time.monotonic(), time.time_ns(), np.array(state.q, dtype=np.float64).reshape(7),
            np.array(state.tau_ext_hat_filtered, dtype=np.float64).reshape(7), state.robot_mode.name,
            str(state.current_errors), float(state.control_command_success_rate),
        )    # fmt: skip

    def _give_thresholds(self, torques: Sequence[float], forces: Sequence[float]) -> None:
        self._robot.set_collision_behavior(list(torques), list(forces))

    def _start(self) -> Any:
        return self._library.JointImpedanceTracker(
            self._robot,
            stiffness=self._compliance.stiffness,
            damping=self._compliance.damping,
            lower_joint_limits=self.lower,
            upper_joint_limits=self.upper,
        )

    def _is_moved(self) -> bool:
        moved: bool = self._robot.is_in_control
        self._robot.poll_motion()    # tells once what ended a motion; returns the contrary of what its text says
        return moved

    def _set_gains(self, stiffness: Sequence[float], damping: Sequence[float]) -> None:
        self._tracker.set_gains(stiffness=stiffness, damping=damping)

    def _aim(self, goal: np.ndarray, speed: np.ndarray) -> None:
        self._tracker.set_target(goal, speed)

    def _brake(self, tracker: Any) -> bool:
        # Where the robot has ended the motion meanwhile, this would begin one.
        if not self._robot.is_in_control:
            return False
        self._robot.move(self._library.TorqueStopMotion(damping=self._compliance.damping), asynchronous=True)
        return True

    def _finish(self) -> None:
        self._brake(None)
        self._robot.join_motion(END_WITHIN)

    def _recover_robot(self) -> None:
        # What it returns is made of a state that may be older than the recovery.
        self._robot.recover_from_errors()
