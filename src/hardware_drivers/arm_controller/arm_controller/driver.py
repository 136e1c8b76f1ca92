# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot implements to be moved by the arm controller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np

from molmoact2_contract import Arm, Contract

GROUP = "molmoact2.arm_drivers"


class DriverError(RuntimeError):
    """The device refused, failed or does not answer; the text names it, what was expected, and the mend."""


@dataclass(frozen=True)
class ArmState:
    """Measured joints. positions: float64 (J,) in ROS units and the arm's joint order; stamp_ns: capture, ROS time."""

    positions: np.ndarray
    stamp_ns: int


@dataclass(frozen=True)
class Reading:
    """One figure of a device's health. name: what of what, e.g. "elbow_flex temperature"; unit: as it is shown, empty
    where it is a count. warn, stop: from there on it is a warning, or the driver or the device stops; a figure whose
    stop lies below its warn must not fall to them, any other must not rise."""

    name: str
    value: float
    unit: str
    warn: float | None = None
    stop: float | None = None


class ArmDriver(ABC):
    """One arm's device. ROS units at this edge: rad, grippers 0 closed .. 1 open; joints in the arm's order.

    A call returns within a setpoint period; one that cannot raises DriverError after a second at most. Only one thread
    calls.

    real: whether it moves a real arm. One that does is not armed by itself and begins in shadow, whatever a system file
    says; only a driver that knows that a simulation or a double is behind it says no.
    """

    real: bool = True
    close_within: float = 2.0    # [s] that close() may take

    @property
    def falls(self) -> bool:
        """Whether the arm would fall, or sink, if it were closed now. It asks the device nothing."""
        return False

    @abstractmethod
    def connect(self) -> None:
        """Opens and checks the device; moves nothing."""

    @abstractmethod
    def read(self) -> ArmState:
        """The newest measured state."""

    @abstractmethod
    def write(self, positions: np.ndarray) -> None:
        """Sends one setpoint, float64 (J,). The first one after connect switches the servos on where they are off."""

    @abstractmethod
    def stop(self) -> None:
        """Holds where the arm is now; grippers keep the goal that they have, and so what they hold."""

    def held(self) -> np.ndarray | None:
        """What the device holds at by itself now, float64 (J,): what it was told last, NaN for a joint that holds
        nothing or of which that is not known; None where nothing is known. It asks the device nothing."""
        return None

    def guide(self) -> None:
        """Puts the arm in a person's hand until stop() or the next write: it yields, and carries its own weight where
        it can. Errors: DriverError, also from devices that cannot yield."""
        raise DriverError("this driver offers no hand guiding; disarm, or park and switch the arm off")

    def recover(self) -> None:    # noqa: B027  (most devices have nothing to recover from)
        """An operator clears a fault: makes a device that has stopped itself, or was lost, ready again; moves nothing.

        Errors: DriverError says what still stands in the way.
        """

    def health(self) -> Sequence[Reading]:
        """How the device is, newest known: temperatures, supply, its bus. Asked about once a second, between two
        setpoints: it asks the device nothing, waits for nothing, and never raises."""
        return ()

    @abstractmethod
    def close(self) -> None:
        """Releases the device. What the arm does then is the device's nature, and stands in the driver's own docs."""


def make_driver(name: str, contract: Contract, arm: Arm, options: list[str]) -> ArmDriver:
    """Makes the driver registered under `name` in the entry-point group molmoact2.arm_drivers.

    options: texts "key=value". Errors: DriverError for an unknown driver (lists those there are) or a malformed option.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise DriverError(f"driver {name!r} is not installed; installed are: {', '.join(sorted(found)) or 'none'}")
    pairs: dict[str, str] = {}
    for option in filter(None, options):
        key, equals, value = option.partition("=")
        if not (key and equals):
            raise DriverError(f"driver option {option!r} must be key=value")
        pairs[key] = value
    return found[name].load()(contract, arm, pairs)
