# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Motors that come back off: their power was away, and with it what was not saved and the turn that they counted in."""

from __future__ import annotations

import numpy as np

from arm_controller.driver import DriverError

from .channel import Channel
from .checks import motor_faults, survey
from .exchange import Exchange
from .hardware import Hardware
from .motors import ON, MotorBus, Silent
from .turns import Doubt, whole_turns
from .vendor import Chain

AGAIN = 0.5    # [s] between two looks at motors that do not fit


class Returning:
    """Looks at them as at connect, before they are believed again. unfit: what does not fit, in words; else empty.
    shafts: where they were when all were believed last (Chain.shafts); None before. doubt: of the gripper's turns."""

    def __init__(
        self, hardware: Hardware, names: tuple[str, ...], channel: Channel, gripper: tuple[float, float]
    ):
        self._hardware, self._names, self._channel, self._gripper = hardware, names, channel, gripper
        self.unfit, self.doubt = "", Doubt(gripper)
        self._looked = 0.0
        self.shafts: np.ndarray | None = None

    def forget(self) -> None:
        """All motors are looked at otherwise."""
        self.unfit = ""
        self.doubt.begin()

    def look(self, bus: MotorBus, exchange: Exchange, chain: Chain, now: float) -> None:
        """Errors: OSError, can.CanError where the adapter fails."""
        if not exchange.returned:
            self.shafts = chain.shafts()
            return
        if exchange.silent.any() or (self.unfit and now - self._looked < AGAIN):
            return
        self._looked = now
        try:
            if not any(reading.status == ON for reading in exchange.readings):
                exchange.readings = list(survey(bus, self._hardware, self._names, self._channel).readings)
            else:
                self._check_beside_driven(bus, exchange)
            chain.motor_offset = whole_turns(
                exchange.readings, self._hardware, self._names, self._gripper, self.shafts
            )
        except DriverError as error:
            self.unfit = str(error)
            return
        self.forget()
        exchange.returned.clear()

    def _check_beside_driven(self, bus: MotorBus, exchange: Exchange) -> None:
        """The others must be commanded meanwhile: each question is put once."""
        before, bus.tries = bus.tries, 1
        try:
            faults = [
                fault for index in sorted(exchange.returned)
                for fault in motor_faults(bus, self._hardware.motors[index], self._names[index], self._channel)[0]
            ]
        except (Silent, RuntimeError) as error:
            where = self._channel.text
            raise DriverError(f"{error} on {where} came back and answers unreliably; check its cable") from error
        finally:
            bus.tries = before
        if faults:
            raise DriverError(f"on {self._channel.text}: " + "; ".join(faults))
