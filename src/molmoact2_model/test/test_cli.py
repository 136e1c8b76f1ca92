# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2 infer`: results in files, and its exit status."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from molmoact2_contract import cli


@pytest.fixture
def arguments(golden, tmp_path):
    """The command line of the golden case think_2, frames of the call before it included."""
    line = [
        "infer",
        "--checkpoint",
        str(golden.checkpoint),
        "--tag",
        "tiny_arm",
        "--out",
        str(tmp_path / "out"),
    ]
    for option, name in (("--previous-image", "think_1"), ("--image", "think_2")):
        for index, image in enumerate(golden.images(name)):
            path = tmp_path / f"{name}.{index}.png"
            Image.fromarray(image).save(path)
            line += [option, str(path)]
    state = ",".join(str(value) for value in golden.value("think_2", "state"))
    line += [f"--state={state}", "--instruction", golden.cases["think_2"]["task"], "--seed", "5"]
    return line


def test_infer_writes_actions_trace_and_picture(golden, arguments, tmp_path, capsys):
    assert cli.main([*arguments, "--depth", "adaptive", "--cache-policy", "reference"]) == 0
    out = tmp_path / "out"
    actions = np.load(out / "actions.npy")
    assert actions.shape == (30, 7)
    with open(out / "actions.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["waypoint", *(f"joint_{index}.pos" for index in range(6)), "gripper.pos"]
    np.testing.assert_allclose(np.array(rows[1:], float)[:, 1:], actions)
    trace = json.loads((out / "trace.json").read_text())
    assert trace["refreshed"] == golden.value("think_2", "refreshed").tolist()
    assert trace["depth_codes"] == golden.value("think_2", "depth_codes").tolist()
    assert trace["seed"] == 5
    with Image.open(out / "depth.png") as picture:
        assert picture.height == 480
    assert "19 of 100 codes generated" in capsys.readouterr().out


def test_the_picture_frames_the_refreshed_cells_and_colours_the_codes(golden, policy):
    from molmoact2_model.picture import code_colours, depth_picture

    trace = golden.run(policy, "think_2").trace
    picture = np.asarray(depth_picture(golden.images("think_2")[0], trace, policy.config.depth, height=400))
    codes = picture[:, -400:].reshape(10, 40, 10, 40, 3).transpose(0, 2, 1, 3, 4).reshape(100, 40, 40, 3)
    wanted = code_colours(policy.config.depth.codebook_size)[trace.depth_codes]
    np.testing.assert_array_equal(codes[:, 20, 20], wanted)
    framed = (codes[:, 1, 20] == 255).all(axis=-1)
    np.testing.assert_array_equal(framed, trace.refreshed)


def test_without_depth_there_is_no_picture(arguments, tmp_path):
    without_previous = [
        arg for index, arg in enumerate(arguments) if "previous" not in arg + arguments[index - 1]
    ]
    assert cli.main(without_previous) == 0
    assert not (tmp_path / "out" / "depth.png").exists()
    assert (tmp_path / "out" / "actions.npy").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--tag": "nobody"}, "it has ['tiny_arm', 'tiny_fast']"),
        ({"--checkpoint": "/nowhere"}, "neither a folder nor a Hub id"),
        ({"--image": "/nowhere.png"}, "image /nowhere.png cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, changes, message, capsys):
    for option, value in changes.items():
        arguments[arguments.index(option) + 1] = value
    assert cli.main([*arguments, "--depth", "adaptive"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_wrong_state_is_exit_status_2(arguments, capsys):
    line = [arg for arg in arguments if not arg.startswith("--state=")]
    assert cli.main([*line, "--state", "a,b", "--depth", "adaptive"]) == 2
    assert "expected numbers" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_state_may_come_from_a_file(golden, tmp_path, suffix):
    from molmoact2_model.infer_command import read_state

    state, path = golden.value("think_2", "state"), tmp_path / f"state{suffix}"
    if suffix == ".npy":
        np.save(path, state)
    else:
        path.write_text(json.dumps(state.tolist()))
    np.testing.assert_array_equal(read_state(str(path)), state)
