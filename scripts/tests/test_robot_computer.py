# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2` where only what docker/robot.Dockerfile installs can be imported: no torch, no model, no
policy, no simulation."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OF_OTHERS = {    # installed by scripts/build and not by that image
    "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "starlette", "uvicorn", "h11",
    "prometheus_client", "tensorboard", "accelerate", "peft", "av", "pyarrow", "rosbags", "rerun", "gymnasium",
    "scservo_sdk",
}
ASKED = {
    "help": ["--help"],
    "so101": ["so101", "--help"],
    "so101 release": ["so101", "release", "--help"],
    "calibrate": ["calibrate", "--help"],
    "yam": ["yam", "--help"],
    "yam limp": ["yam", "limp", "--help"],
    "operate": ["operate", "--help"],
    "check": ["check", "--help"],
    "up": ["up", "no_such_system"],
    "so101 state": ["so101", "state", "--port", "/no/such/port"],
    "yam state": ["yam", "state", "--channel", "slcan:/no/such/port"],
    "whole check": [
        "check", "so101_robot", "--offline", "--out", "OUT",
        "--set", "arm_controller.driver_options=[port=double, calibration=double]",
    ],
    "record": ["record", "--out", "OUT/bag"],
    "infer": ["infer"],
}
PROGRAM = """
import contextlib, io, json, sys

absent, asked = json.loads(sys.argv[1]), json.loads(sys.argv[2])


class Without:
    '''A finder of modules that does not find these.'''

    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from molmoact2_contract.cli import main

answers = {}
for name, words in asked.items():
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    answers[name] = status, said.getvalue()
print(json.dumps(answers))
"""


def packages_of(folder: Path) -> set[str]:
    return {ElementTree.parse(file).getroot().findtext("name") for file in folder.rglob("package.xml")}


def left_out() -> set[str]:
    """The suite's packages that the image has not."""
    text = (ROOT / "docker/robot.Dockerfile").read_text()
    copied, removed = (
        {name for path in re.findall(pattern, text, re.MULTILINE) for name in packages_of(ROOT / path)}
        for pattern in (r"^COPY \S+ (src/\S+) ", r"rm -r (src/\S+)")
    )
    return packages_of(ROOT / "src") - copied | removed


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Exit status and all that was said, by what was asked."""
    out = str(tmp_path_factory.mktemp("out"))
    asked = {name: [word.replace("OUT", out) for word in words] for name, words in ASKED.items()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(sorted(OF_OTHERS | left_out())), json.dumps(asked)],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: tuple(answer) for name, answer in json.loads(done.stdout.splitlines()[-1]).items()}


def test_what_is_left_out_of_the_image_is_left_out_here():
    assert left_out() == {"molmoact2_data", "molmoact2_model", "molmoact2_policy", "mujoco_driver"}


def test_the_command_names_what_works_there_and_what_does_not(answers):
    status, said = answers["help"]
    assert status == 0 and "could not be loaded" not in said
    for name in ("calibrate", "check", "episode", "operate", "so101", "up", "yam"):
        assert re.search(rf"^    {name}\b", said, re.MULTILINE), name
    absent = " ".join(said[said.index("Not on this computer:"):].split())
    assert "infer (needs molmoact2_model)" in absent and "replay (needs molmoact2_policy)" in absent


@pytest.mark.parametrize("name", [name for name, words in ASKED.items() if "--help" in words and len(words) > 1])
def test_a_subcommand_of_what_is_there_explains_itself(answers, name):
    status, said = answers[name]
    assert status == 0 and said.startswith(f"usage: molmoact2 {name}"), said


def test_what_is_asked_of_devices_and_systems_is_answered_in_one_line(answers):
    port = "/no/such/port"
    for name, words in (("up", "no_such_system: no such file"), ("so101 state", port), ("yam state", port)):
        status, said = answers[name]
        assert status in (1, 2) and said.startswith("error: ") and words in said, said
        assert "Traceback" not in said


def test_a_check_goes_through_all_but_the_policy_and_says_where_that_is_checked(answers):
    status, said = answers["whole check"]
    assert status == 0, said
    assert re.search(r"^pass  installed .* arm_controller", said, re.MULTILINE)
    assert re.search(r"^pass  calibration arm", said, re.MULTILINE)
    elsewhere = "on the computer with the policy: molmoact2_policy is not on this one"
    assert re.search(rf"^skip  policy .* {elsewhere}", said, re.MULTILINE)


def test_what_needs_an_absent_package_says_which(answers):
    status, said = answers["record"]
    assert status == 2 and "molmoact2 record needs the Python package molmoact2_policy" in said
    status, said = answers["infer"]
    assert status == 2 and "invalid choice: 'infer'" in said
