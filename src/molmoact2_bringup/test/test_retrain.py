# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`checkpoints/retrain`: what it refuses, that it can be ended, its order, and that it goes on where it was cut."""

import itertools
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from molmoact2_model.training.recipe import Recipe, load_recipe

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
for word; do printf "'%s' " "$word"; done >>"$NOTES"
echo >>"$NOTES"
what="$1 $2" out=
while [ $# -gt 1 ]; do
    case $1 in --out | -o) out=$2 ;; esac
    shift
done
[ -z "$CUT" ] || [ "${what%% *} $out" != "$CUT" ] || exit 1
case $what in
    "depth annotate")
        for meta in plain/meta varied/meta corrected*/meta; do
            [ ! -d $meta ] || touch $meta/depth_codes.json
        done ;;
    "depth fit" | "data stats") touch "$out" ;;
    train*) mkdir -p "$out"; touch "$out/state.safetensors" ;;
    sim* | corrections*) mkdir -p "$out/meta" ;;
esac
"""
TORCHRUN = """#!/bin/sh
while [ "$1" != molmoact2 ]; do shift; done
exec "$@"
"""


@pytest.fixture
def noting(tmp_path) -> dict[str, str]:
    """The environment of a shell on a processor, in which commands only note what they were told. CUT: see `told`."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("molmoact2", NOTING), ("torchrun", TORCHRUN), ("python", "#!/bin/sh\nexit 1\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes"), "CUT": ""}


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


@pytest.mark.parametrize("seed", ["two", "1.5", "-1", "08", "10000000000"])
def test_a_seed_that_is_no_whole_number_is_refused_before_anything_is_made(tmp_path, fake, seed):
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), seed], capture_output=True, text=True, env=fake)
    assert done.returncode == 2 and f"SEED is '{seed}', expected a whole number" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_word_too_many_is_refused_before_anything_is_made(tmp_path, fake):
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), "1", "more"], capture_output=True, text=True, env=fake)
    assert done.returncode == 2 and "usage: checkpoints/retrain OUT [SEED]" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_was_begun_with_another_seed_is_not_gone_on_with(tmp_path, noting):
    assert told(tmp_path, noting)
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), "2"], capture_output=True, text=True, env=noting)
    assert done.returncode == 2 and "was begun with seed 1, not 2" in done.stderr


def test_what_does_not_say_how_it_was_begun_is_not_gone_on_with(tmp_path, noting):
    (tmp_path / "out/posttrain").mkdir(parents=True)
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out")], capture_output=True, text=True, env=noting)
    assert done.returncode == 2 and "choose another OUT" in done.stderr


@pytest.mark.parametrize(("plan", "code"), [("short, seed 1", 0), ("short, seed 2", 2), ("long, seed 1", 2)])
def test_what_an_earlier_retrain_began_the_same_way_is_gone_on_with(tmp_path, noting, plan, code):
    (tmp_path / "out/posttrain").mkdir(parents=True)
    (tmp_path / "out/plan").write_text(f"{plan}\n")
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), "1"], capture_output=True, env=noting, check=False)
    assert done.returncode == code


def told(tmp_path: Path, env: dict[str, str], cut: str = "") -> list[list[str]]:
    """The commands of one call, word by word. cut: the first word and OUT of the one that fails."""
    (tmp_path / "notes").write_text("")
    done = subprocess.run([str(RETRAIN), str(tmp_path / "out"), "1"], env=env | {"CUT": cut}, check=False)
    assert done.returncode == (1 if cut else 0)
    return [shlex.split(line) for line in (tmp_path / "notes").read_text().splitlines()]


def made(commands: list[list[str]]) -> list[str]:
    """What each is to make, in their order."""
    making = [words for words in commands if "annotate" not in words]
    return [words[words.index("--out" if "--out" in words else "-o") + 1] for words in making]


def recipe_of(words: list[str]) -> Recipe:
    changes = dict(word.split("=", 1) for before, word in itertools.pairwise(words) if before == "--set")
    return load_recipe(Path(words[1]), {name: yaml.safe_load(value) for name, value in changes.items()})


def test_it_goes_from_demonstrations_to_the_last_step(tmp_path, noting):
    commands = told(tmp_path, noting)
    assert made(commands) == [
        "plain.part", "varied.part", "depth_codebook.json", "norm_stats.json", "posttrain", "corrected.part", "settle",
        "corrected_again.part", "settle", "eval",
    ]    # fmt: skip
    for words in commands:
        if words[:2] == ["depth", "annotate"]:
            assert words[words.index("--codebook") + 1] == "depth_codebook.json"
    first, middle, last = (words for words in commands if words[0] == "train")
    assert (recipe_of(first).run.steps, recipe_of(first).run.seed) == (1400, 1)
    assert {recipe_of(words).run.batch for words in (first, middle, last)} == {16}    # in each of two processes
    for words in (middle, last):
        recipe = recipe_of(words)
        assert (recipe.run.steps, recipe.run.seed) == (1700, 1)
        assert recipe.start.checkpoint == "posttrain/checkpoint"
    assert [data.path for data in recipe_of(middle).data] == ["plain", "corrected", "varied"]
    assert middle[middle.index("--until") + 1] == "800" and "--resume" not in middle
    assert "corrected_again" in [data.path for data in recipe_of(last).data]
    assert "--resume" in last and "--until" not in last


def test_on_a_gpu_one_process_takes_what_two_do_on_a_processor(tmp_path, noting):
    (tmp_path / "bin/python").write_text("#!/bin/sh\nexit 0\n")      # there is one
    (tmp_path / "bin/torchrun").write_text("#!/bin/sh\nexit 1\n")    # must not be needed
    stages = [words for words in told(tmp_path, noting) if words[0] == "train"]
    assert [recipe_of(words).run.batch for words in stages] == [32] * 3
    assert not any("--threads" in words for words in stages)


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        ("corrections corrected.part", ["posttrain", "corrected.part", "settle", "corrected_again.part", "settle"]),
        ("depth ", ["norm_stats.json", "posttrain", "corrected.part", "settle", "corrected_again.part", "settle"]),
        ("train settle", ["posttrain", "settle", "corrected_again.part", "settle"]),
        ("corrections corrected_again.part", ["posttrain", "settle", "corrected_again.part", "settle"]),
        ("eval eval", ["posttrain", "settle"]),
    ],
)
def test_what_was_cut_goes_on_there(tmp_path, noting, cut, left):
    told(tmp_path, noting, cut)
    commands = told(tmp_path, noting)
    assert made(commands) == [*left, "eval"]
    for words in commands:
        if words[0] == "train" and "posttrain" in words:
            assert ("--resume" in words) == (left[0] == "posttrain")
