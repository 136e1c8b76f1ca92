# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A clock that can be set for one process alone, so that a jump can be tried without setting the machine's.

A small library, compiled here and preloaded into that process, adds to CLOCK_REALTIME what stands in a file. What it is
loaded into knows nothing of it.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

NANOSECONDS = struct.Struct("<q")
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void open_shift(void) {
  const char *path = getenv("MOLMOACT2_CLOCK_SHIFT");
  int file = path ? open(path, O_RDONLY) : -1;
  void *page = file < 0 ? MAP_FAILED : mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
  shift = page == MAP_FAILED ? 0 : page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (failed || clock != CLOCK_REALTIME || !shift) return failed;
  int64_t sum = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + *shift;
  now->tv_sec = sum / 1000000000;
  now->tv_nsec = sum % 1000000000;
  return 0;
}
"""


class ShiftedClock:
    """Compiles the library into a folder. Errors: RuntimeError where that cannot be done."""

    def __init__(self, folder: Path):
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "c++", "g++"))), None)
        if compiler is None:
            raise RuntimeError("no C compiler (cc, gcc, c++ or g++) is installed, and the clock rows need one")
        source, library, self._file = folder / "clock.c", folder / "clock.so", folder / "clock.shift"
        source.write_text(SOURCE)
        self.shift(0.0)
        command = [compiler, "-shared", "-fPIC", "-O1", "-x", "c", str(source), "-o", str(library), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the clock library does not compile: {done.stderr.strip()}")
        self.environment = {"LD_PRELOAD": str(library), "MOLMOACT2_CLOCK_SHIFT": str(self._file)}

    def shift(self, seconds: float) -> None:
        """Sets the clock of the processes that have the library to the true time plus so many seconds."""
        packed = NANOSECONDS.pack(int(seconds * 1e9))
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(packed)
