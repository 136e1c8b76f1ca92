# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`checkpoints/retrain`: what it refuses, and that it can be ended."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

RETRAIN = Path(__file__).parents[3] / "checkpoints/retrain"
# In the place of the command: makes what a cut data set leaves, and says what it was told.
COMMAND = """#!/bin/sh
trap 'echo told; kill $asleep; exit 143' TERM
touch here
echo begun
sleep 60 >/dev/null 2>&1 & asleep=$!
wait
"""


@pytest.fixture
def fake(tmp_path) -> dict[str, str]:
    """The environment of a shell in which `molmoact2` does nothing until it is ended."""
    command = tmp_path / "bin/molmoact2"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}


def test_sigterm_reaches_the_command_that_runs_and_what_a_cut_data_set_left_is_cleared(tmp_path, fake):
    out = tmp_path / "out"
    for left in ("plain.part", ".plain.part.abc.partial", ".other.part.abc.partial"):
        (out / left).mkdir(parents=True)
    with subprocess.Popen([str(RETRAIN), str(out), "3"], stdout=subprocess.PIPE, text=True, env=fake) as process:
        assert process.stdout.readline() == "begun\n"
        assert sorted(path.name for path in out.iterdir()) == [".other.part.abc.partial", "here"]
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "told\n"
    assert process.returncode == 143


@pytest.mark.parametrize("seed", ["two", "1.5", "-1"])
def test_a_seed_that_is_no_whole_number_is_refused_before_anything_is_made(tmp_path, fake, seed):
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), seed], capture_output=True, text=True, env=fake)
    assert done.returncode == 2 and f"SEED is '{seed}', expected a whole number" in done.stderr
    assert not (tmp_path / "out").exists()


def test_another_way_than_the_long_one_is_refused_before_anything_is_made(tmp_path, fake):
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), "1", "lng"], capture_output=True, text=True, env=fake)
    assert done.returncode == 2 and "'lng' behind SEED, expected long or nothing" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_was_begun_the_short_way_is_not_gone_on_with_the_long_one(tmp_path, fake):
    (tmp_path / "plan").write_text("short\n")
    command = [str(RETRAIN), str(tmp_path), "1", "long"]
    done = subprocess.run(command, capture_output=True, text=True, env=fake)
    assert done.returncode == 2 and "was begun as 'short', not 'long'; choose another OUT" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "bin"] == ["plan"]
