# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the nodes of this package share: how they are declared and diagnosed."""

from __future__ import annotations

from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor


def fixed(description: str, **ranges: list) -> ParameterDescriptor:
    """A parameter that is set at the start only."""
    return ParameterDescriptor(description=description, read_only=True, **ranges)


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def diagnostics(stamp: Time, level: bytes, name: str, message: str, values: Mapping[str, str]) -> DiagnosticArray:
    """level: of DiagnosticStatus."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    array = DiagnosticArray(status=[DiagnosticStatus(level=level, name=name, message=message, values=pairs)])
    array.header.stamp = stamp
    return array
