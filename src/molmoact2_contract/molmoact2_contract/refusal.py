# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What every package of the suite may raise where the command `molmoact2` is to say why in one line."""


class Refusal(Exception):
    """What was asked for cannot be done as it was asked. The text names the thing, what was expected, and the mend."""
