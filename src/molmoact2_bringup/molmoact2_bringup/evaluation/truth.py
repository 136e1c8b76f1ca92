# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What really happens in a simulated world that runs in another process: read from its servo bus, judged here."""

from __future__ import annotations

import threading
import time

import mujoco
import numpy as np

from mujoco_driver.bus import BusClient, BusError
from mujoco_driver.judge import Judge
from mujoco_driver.tabletop import RATE, Tabletop
from mujoco_driver.variation import apply_variation

TIMEOUT = 2.0       # [s] of the bus
FILM_EVERY = 3      # steps between two states that are kept


class Truth:
    """Looks at the world 30 times a second, in a thread of its own while an attempt runs. table: of the same scene; it
    is made to look like the world."""

    def __init__(self, address: str, table: Tabletop):
        """Errors: BusError where no world is there."""
        self._bus, self.table = BusClient(address, TIMEOUT), table
        self._stop, self.decided = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._judge: Judge | None = None
        self.film: list[np.ndarray] = []
        self.success, self.error, self.steps, self.longest_gap = False, "", 0, 0

    def close(self) -> None:
        self.end()
        self._bus.close()

    def look(self) -> int:
        """Takes over how the world is now; returns the capture's stamp [ns, ROS time]. Errors: BusError."""
        state = self._bus.state()
        apply_variation(self.table.scene, state.seed)
        self.table.data.qpos[:] = state.qpos
        mujoco.mj_kinematics(self.table.model, self.table.data)
        return state.stamp_ns

    def begin(self, task: str, cube: str, patience: float = 1.0) -> None:
        """Judges an attempt from now on. patience: as of the judge. `decided` is set when it has succeeded, its
        limit is over, or the world is gone. Errors: BusError."""
        start_ns = self.look()
        self._judge, self.film = Judge(self.table, task, cube, patience), [self.table.data.qpos.copy()]
        self.success, self.error, self.steps, self.longest_gap = False, "", 0, 0
        self._stop.clear()
        self.decided.clear()
        self._thread = threading.Thread(target=self._run, args=(self._judge, start_ns), name="truth", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, judge: Judge, start_ns: int) -> None:
        try:
            while self.steps < judge.limit and not self.success and not self._stop.is_set():
                self._step(judge, start_ns)
        except BusError as error:
            self.error = str(error)
        self.decided.set()

    def _step(self, judge: Judge, start_ns: int) -> None:
        """One look, where a step or more has gone by."""
        step = int((self.look() - start_ns) * RATE / 1e9)
        if step <= self.steps:
            time.sleep(0.2 / RATE)
            return
        self.longest_gap = max(self.longest_gap, step - self.steps)
        self.success = judge.update(step - self.steps)
        if step // FILM_EVERY > self.steps // FILM_EVERY:
            self.film.append(self.table.data.qpos.copy())
        self.steps = step

    @property
    def reason(self) -> str:
        """Why the attempt did not succeed; empty where it did."""
        if self.success or self._judge is None:
            return ""
        return f"the simulated world is gone: {self.error}" if self.error else self._judge.reason()
