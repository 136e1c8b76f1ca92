# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a data set's states and actions are what a norm tag's are of."""

from __future__ import annotations

import math

from molmoact2_data.layout import ACTION, STATE
from molmoact2_data.reader import Dataset, names_of

from ..errors import InputError
from ..normalization import NormStats


def check_values(dataset: Dataset, stats: NormStats, tag: str, put_in_order: bool) -> None:
    """That they are as many and, where both have the same names, in one order. put_in_order: somebody sees to the
    latter. Errors: InputError."""
    known, entry = stats.tag(tag), stats.metadata[tag]
    for feature, figures, dim in ((STATE, "state_stats", known.state.dim), (ACTION, "action_stats", known.action.dim)):
        what = dataset.features.get(feature)
        if what is None:
            continue    # whoever reads it says so
        count = math.prod(what["shape"])
        if count != dim:
            raise InputError(
                f"{dataset.root} has {count} values in {feature}, norm tag {tag!r} has {dim}; name data of that robot, "
                "or another norm tag"
            )
        theirs, ours = ([name.removesuffix(".pos") for name in names_of(part)] for part in (entry[figures], what))
        if not put_in_order and theirs != ours and sorted(theirs) == sorted(ours):
            raise InputError(
                f"{dataset.root} has the values of {feature} in the order {', '.join(ours)}, norm tag {tag!r} in the "
                f"order {', '.join(theirs)}; say robot, and units beside the path: then they are put in order"
            )
