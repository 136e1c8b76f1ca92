# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The table of a campaign, as its tests read it."""

import re
import warnings


def names_of_passed(table):
    """The rows' names, of a table whose rows have all passed; rows that were tried again are warned of."""
    names = []
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert re.match(r"passed(, tried again|$)", cells[-1]), line
        if cells[-1] != "passed":
            warnings.warn(f"{cells[0]}: {cells[-1]}", stacklevel=2)
        names.append(cells[0])
    return names
