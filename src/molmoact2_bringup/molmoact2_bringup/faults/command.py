# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 faults`: runs the campaign and prints its table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from molmoact2_contract import ContractError, load_system

from ..lifecycle import BringUpError
from ..running import Stopped, SystemEnded
from ..swaying import that_sways
from .campaign import Row, campaign
from .devices import faults_of

SYSTEMS = ("so101_sim", "so101_double", "yam_single_double", "franka_droid_double")


def faults(system_names: Sequence[str], out: Path, only: Sequence[str] = ()) -> int:
    """One campaign after the other. only: names of single faults of devices; all where it is empty. Writes faults.md,
    row by row, and log.txt. Returns 0 when every row passed, 1 when one failed, 2 for bad input."""
    rows: list[Row] = []

    def judged(row: Row) -> None:
        rows.append(row)
        _show(row)
        (out / "faults.md").write_text(table(rows))

    try:
        systems = [that_sways(load_system(name)) for name in system_names]
        for system in systems:
            if not system.simulation:
                raise ContractError(f"{system.path}: faults are put into simulations and doubles only")
            faults_of(system, only)    # a wrong name is told before anything begins
        out.mkdir(parents=True, exist_ok=True)
        with (out / "log.txt").open("w") as log:
            for system in systems:
                print(f"{system.name}:", flush=True)
                campaign(system, lambda line: print(line, file=log, flush=True), judged, only)
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (BringUpError, SystemEnded, Stopped, RuntimeError) as error:
        print(f"error: {error or 'stopped'}; see {out / 'log.txt'}", file=sys.stderr)
        return 1
    failed = sum(bool(row.failed) for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} passed; {out / 'faults.md'}", flush=True)
    return 1 if failed else 0


def _show(row: Row) -> None:
    verdict = f"FAILED: {row.failed}" if row.failed else "passed"
    again = f"\n    tried again, because {row.excused}" if row.excused else ""
    print(f"{row.fault:34} {row.expected:17} {row.seconds:6.3f} s  {verdict}\n    {row.seen}{again}", flush=True)


def table(rows: list[Row]) -> str:
    lines = ["| fault | expected | seen | time to it [s] | verdict |", "|---|---|---|---|---|"]
    for row in rows:
        verdict = f"**failed**: {row.failed}" if row.failed else "passed"
        verdict += f", tried again, because {row.excused}" if row.excused else ""
        cells = [row.fault, row.expected, row.seen, f"{row.seconds:.3f}", verdict]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
