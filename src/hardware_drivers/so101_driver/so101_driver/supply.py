# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What supply a servo needs, by its own registers. No bus here.

Servos are made for 7.4 V (which the makers of the SO-100 run on 5 V) and for 12 V. What a board gives that has no other
supply than USB is not known, and could not be told from a weak supply: one text says both.
"""

from __future__ import annotations

from dataclasses import dataclass

from .registers import MAX_VOLTAGE, MIN_VOLTAGE

LOWEST = 4.0         # [V]; with less no STS3215 works, whatever is written into its register
RESERVE = 0.3        # [V]; chosen: so much before the servo's own limit the arm stops
WARNING = 0.2        # [V]; chosen: so much before that it is a warning
FOR_12_VOLTS = 9.0   # [V]; a servo that takes more is one for 12 V: those for 7.4 V take 8 V
HALF = 6.0           # [V] of its 12; with less it is on a supply for the others


@dataclass(frozen=True)
class Supply:
    """limit: the servo's own lower one; least: with less the arm stops; most: more burns it [V]."""

    limit: float
    least: float
    most: float

    @classmethod
    def of(cls, eeprom: bytes) -> Supply:
        """Of a servo's first 40 registers."""
        limit, most = MIN_VOLTAGE.within(eeprom, 0) / 10, MAX_VOLTAGE.within(eeprom, 0) / 10
        least = round(max(limit, LOWEST) + RESERVE, 1)
        return cls(limit, max(least, HALF) if most > FOR_12_VOLTS else least, most)

    def lacks(self, voltage: float) -> str:
        """What is wrong with so little, after the servo's name; empty where it is enough."""
        if voltage >= self.least:
            return ""
        return (
            f"has {voltage:.1f} V, less than {self.least:.1f} V (its own limit is {self.limit:.1f} V): the arm's own "
            "power supply is off (USB cannot carry it) or too weak; look at it, its plug and its cable"
        )

    def misfits(self, voltage: float) -> str:
        """Likewise: too little, too much, or another arm's."""
        if voltage > self.most:
            return (
                f"has {voltage:.1f} V, more than the {self.most:.1f} V that it is made for: unplug the supply; 12 V is "
                "for the 12 V servos only"
            )
        if self.most > FOR_12_VOLTS and LOWEST + RESERVE <= voltage < self.least:
            return (
                f"has {voltage:.1f} V, and takes up to {self.most:.1f} V, as a 12 V servo does: this is the supply of "
                "7.4 V servos; read the labels of all servos of the arm before you give it 12 V, which burns those"
            )
        return self.lacks(voltage)
