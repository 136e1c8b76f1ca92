# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the library raises. Every message names the thing, what was expected, and the mend where there is one."""

from molmoact2_contract.refusal import Refusal


class ModelError(Refusal):
    """Anything this library refuses or cannot do. Catch this one; no action was produced."""


class CheckpointError(ModelError):
    """A checkpoint folder that is incomplete, inconsistent, or not a MolmoAct2 checkpoint."""


class InputError(ModelError, ValueError):
    """A request that cannot be answered: wrong images, state, instruction, tag or option."""


class DecodeError(ModelError):
    """What the model generated for this one observation spells no depth map or no action; the next may be well."""


class UnsupportedError(ModelError, NotImplementedError):
    """Something the interface names but this version does not do."""
