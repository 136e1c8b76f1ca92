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
# Notes what it was told, leaves what the command would leave by name, and fails where CUT is what it is to make.
NOTING = """#!/bin/sh
echo "$@" >>"$NOTES"
what="$1 $2"
while [ $# -gt 1 ]; do
    case $1 in --out | -o) out=$2 ;; esac
    shift
done
[ "$out" != "${CUT:-}" ] || exit 1
case $what in
    "depth fit" | "data stats") touch "$out" ;;
    train*) mkdir -p "$out"; touch "$out/state.safetensors" ;;
    sim* | corrections*) mkdir -p "$out/meta"; touch "$out/meta/depth_codes.json" ;;
esac
"""
TORCHRUN = """#!/bin/sh
while [ "$1" != molmoact2 ]; do shift; done
exec "$@"
"""


@pytest.fixture
def noting(tmp_path) -> dict[str, str]:
    """The environment of a shell on a processor, in which commands do nothing but note what they were told."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("molmoact2", NOTING), ("torchrun", TORCHRUN), ("python", "#!/bin/sh\nexit 1\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes")}


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


def test_what_was_cut_in_the_second_corrections_goes_on_there_and_then_trains_to_the_end(tmp_path, noting):
    def told(cut: str = "") -> list[str]:
        """The commands of one call that train or correct."""
        (tmp_path / "notes").write_text("")
        done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), "1"], env=noting | {"CUT": cut}, check=False)
        assert done.returncode == (1 if cut else 0)
        lines = (tmp_path / "notes").read_text().splitlines()
        return [line for line in lines if line.split()[0] in ("train", "corrections")]

    posttrain, corrected, settle, again = told("corrected_again.part")
    assert "--out posttrain" in posttrain and "--out corrected.part" in corrected
    assert "--out settle" in settle and "--until 800" in settle and "corrected_again" not in settle
    assert "settle/checkpoint --out corrected_again.part" in again
    posttrain, settle, again, last = told()
    assert "--out posttrain --resume" in posttrain and "--out settle --resume" in settle and "--until 800" in settle
    assert "--out corrected_again.part" in again
    assert "--out settle --resume" in last and "--until" not in last and "data=" not in last
    assert [line.split("--out ")[1].split()[0] for line in told()] == ["posttrain", "settle"]
