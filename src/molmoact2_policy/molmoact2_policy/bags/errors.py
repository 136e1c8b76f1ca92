# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The error of everything about bags."""


class BagError(RuntimeError):
    """A bag cannot be written or read; the text names it and says why."""
