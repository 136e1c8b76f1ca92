# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Why a row of a campaign failed, in words; empty where it did not. No ROS here."""

from __future__ import annotations


class Late(str):
    """A reason of which a program that was not given a processor can be the cause: setpoints that came at other times
    than they were sent, a device's double that did not answer in time. No limit of position or workspace is of this
    kind, nor a promise about what an operator alone may do."""


def joined(*reasons: str) -> str:
    """All that are not empty; Late where each of them is."""
    found = [reason for reason in reasons if reason]
    text = "; ".join(found)
    return Late(text) if found and all(isinstance(reason, Late) for reason in found) else text
