# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Mends what the ros-jazzy wheels get wrong, in the virtual environment of the running interpreter.

The CMake targets that the wheels export name two folders of the machine that built them: the include folder of
CPython and that of numpy. Both are replaced by this environment's. Running it twice changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy

# The numpy path begins with the interpreter's, so it is replaced first.
WRONG_NUMPY = re.compile(r"/opt/python/[^;\"\s)]*/site-packages/numpy/(?:_core|core)/include")
WRONG_PYTHON = re.compile(r"/opt/python/[^;\"\s)/]+/include/python3\.\d+")


def mended(text: str, python_include: str, numpy_include: str) -> str:
    """Returns a CMake file's text with both folders replaced."""
    return WRONG_PYTHON.sub(lambda _: python_include, WRONG_NUMPY.sub(lambda _: numpy_include, text))


def main() -> int:
    python_include, numpy_include = sysconfig.get_paths()["include"], numpy.get_include()
    if not (Path(python_include) / "Python.h").is_file():
        print(
            f"error: no Python.h in {python_include}; install the interpreter's headers "
            f"(Debian, Ubuntu: sudo apt-get install python3-dev)",
            file=sys.stderr,
        )
        return 1
    changed = 0
    for file in sorted((Path(sys.prefix) / "share").rglob("*.cmake")):
        before = file.read_text()
        after = mended(before, python_include, numpy_include)
        if after != before:
            file.write_text(after)
            changed += 1
    print(f"-- mended {changed} CMake files of the ROS 2 wheels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
