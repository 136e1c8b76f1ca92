# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""molmoact2 fast: a tokenizer fitted to data sets expresses every chunk there can be, and says what that costs."""

import json
import math

import numpy as np
import pytest
from scipy.fft import dct

from molmoact2_contract.cli import main
from molmoact2_data.keep import Part, write_keep
from molmoact2_data.layout import CORRECTED, NOTES, DatasetError
from molmoact2_data.reader import Dataset
from molmoact2_data.writer import DatasetWriter, Row
from molmoact2_model import FastTokenizer, ModelError
from molmoact2_model.training.fast_data import robots_of_data
from molmoact2_model.training.fast_fit import fit, letters_needed
from molmoact2_model.training.fast_report import measure, normalized

JOINTS = ["shoulder", "elbow", "gripper"]
HORIZON = 12


def reaches(root, episodes=20, length=40, joints=JOINTS, robot="toy", seed=0, spoil=None):
    """A data set of smooth reaches between random places, in radians."""
    random = np.random.default_rng(seed)
    with DatasetWriter(root, 10, joints, {}, robot, {}) as writer:
        for episode in range(episodes):
            ends = random.uniform(-2, 2, (2, len(joints)))
            along = (1 - np.cos(np.linspace(0, np.pi, length)))[:, None] / 2
            actions = (ends[0] + (ends[1] - ends[0]) * along).astype(np.float32)
            if spoil is not None and episode == 3:
                spoil(actions)
            writer.begin("reach", length, {})
            for action in actions:
                writer.add(Row(action, action, {}))
            writer.end()
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return reaches(tmp_path_factory.mktemp("data") / "reaches")


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted") / "fast"
    command = ["fast", "train", str(data), "-o", str(out), "--horizon", str(HORIZON), "--every", "2"]
    assert main([*command, "--vocabulary", "400"]) == 0
    return out


@pytest.fixture(scope="module")
def fast(folder):
    return FastTokenizer.from_folder(folder)


def worst(chunk, decoded):
    return np.abs(dct(np.asarray(chunk, np.float64) - decoded, axis=0, norm="ortho")).max()


def extremes(random, steps, dims):
    """Chunks at the edges of the range, where coefficients are the largest."""
    yield -np.ones((steps, dims))
    yield np.ones((steps, dims))
    yield random.choice([-1.0, 1.0], (steps, dims))
    yield np.sign(np.cos(np.pi * (np.arange(steps)[:, None] + 0.5) * random.integers(1, steps + 1, dims) / steps))
    yield random.uniform(-1, 1, (steps, dims))
    yield np.zeros((steps, dims))


def test_any_chunk_in_range_survives_within_the_rounding_of_its_coefficients(fast):
    random = np.random.default_rng(1)
    for _ in range(60):
        steps, dims = int(random.integers(1, HORIZON + 1)), int(random.integers(1, 15))
        for chunk in extremes(random, steps, dims):
            decoded = fast.decode(fast.encode(chunk), steps, dims)
            assert decoded.shape == chunk.shape
            assert worst(chunk, decoded) <= 0.5 / fast.scale + 1e-6


def test_what_cannot_be_expressed_is_an_error_and_never_another_chunk(fast):
    random = np.random.default_rng(2)
    refused = 0
    for size in (1.5, 3.0, 10.0, 1e4, 1e9):
        for sign in (-1, 1):
            for chunk in extremes(random, HORIZON + 3, 3):
                try:
                    decoded = fast.decode(fast.encode(sign * size * chunk), HORIZON + 3, 3)
                except ModelError as error:
                    assert "cannot express the chunk" in str(error)
                    refused += 1
                else:
                    assert worst(sign * size * chunk, decoded) <= 0.5 / fast.scale + 1e-6
    assert refused


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_have_no_tokens(fast, value):
    chunk = np.zeros((HORIZON, 3))
    chunk[4, 1] = value
    with pytest.raises(ModelError, match="finite"):
        fast.encode(chunk)


@pytest.mark.parametrize("shape", [(HORIZON,), (2, HORIZON, 3), (0, 3)])
def test_what_is_no_chunk_has_no_tokens(fast, shape):
    with pytest.raises(ModelError, match="expected finite"):
        fast.encode(np.zeros(shape))


@pytest.mark.parametrize("shape", [(HORIZON - 1, 3), (HORIZON, 4), (3, HORIZON + 1)])
def test_tokens_of_another_shape_give_no_chunk(fast, shape):
    with pytest.raises(ModelError, match="there is no action"):
        fast.decode(fast.encode(np.zeros((HORIZON, 3))), *shape)


def test_no_coefficient_of_a_chunk_in_range_is_beyond_the_letters():
    random = np.random.default_rng(3)
    for steps in (1, 2, 7, 15, 30):
        most = letters_needed(10, steps)
        for _ in range(50):
            for chunk in extremes(random, steps, 4):
                assert np.abs(np.around(10 * dct(chunk, axis=0, norm="ortho"))).max() <= most


def test_chunks_like_the_data_take_far_fewer_tokens_than_values(data, fast):
    (robot,) = robots_of_data([data], [HORIZON])
    measured = measure(fast, robot, 1, False)
    assert measured.inexpressible == 0
    assert measured.values_per_token > 3
    noise = np.random.default_rng(4).uniform(-1, 1, (HORIZON, 3))
    assert len(fast.encode(noise)) > 2 * measured.tokens


def test_a_list_of_what_is_kept_holds_here_too(data, tmp_path):
    """Chunks and ranges are of the kept frames, and none reaches into what was left out."""
    dataset = Dataset(data)
    parts = [Part(dataset.episodes[0], 5, 20), Part(dataset.episodes[2], 0, 9)]
    write_keep(tmp_path / "kept", dataset, parts, {})
    (robot,) = robots_of_data([tmp_path / "kept"], [HORIZON])
    chunks = list(robot.chunks(2))
    assert len(chunks) == robot.count(2) == 8 + 5
    kept = [dataset.vectors(part.episode).action[part.first : part.end] for part in parts]
    np.testing.assert_array_equal(chunks[7], np.repeat(kept[0][14:15], HORIZON, axis=0))
    np.testing.assert_array_equal(chunks[8], kept[1][np.minimum(np.arange(HORIZON), 8)])
    low, high = np.quantile(np.concatenate(kept), [0.01, 0.99], axis=0)
    ends = robot.normalizer.normalize(np.stack([low, high]).astype(np.float32))
    np.testing.assert_allclose(ends, [[-1] * 3, [1] * 3], atol=1e-5)
    write_keep(tmp_path / "nothing", dataset, [], {})
    with pytest.raises(DatasetError, match="nothing of .*nothing is kept by its list"):
        robots_of_data([tmp_path / "nothing"], [HORIZON])


def test_a_larger_vocabulary_and_a_coarser_grid_take_fewer_tokens(data):
    (robot,) = robots_of_data([data], [HORIZON])
    chunks = [chunk for _, chunk in normalized(robot, 2, False)]

    def tokens(scale, vocabulary):
        made = fit(chunks, HORIZON, scale, vocabulary)
        assert made.vocab_size <= vocabulary
        return sum(len(made.encode(chunk)) for chunk in chunks)

    assert tokens(10, 600) < tokens(10, 200) < tokens(10, 80)
    assert tokens(5, 200) < tokens(20, 200)


def test_the_same_data_give_the_same_files(data, folder, tmp_path):
    command = ["fast", "train", str(data), "-o", str(tmp_path / "again"), "--horizon", str(HORIZON), "--every", "2"]
    assert main([*command, "--vocabulary", "400"]) == 0
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_the_report_is_what_a_reader_would_compute(data, folder, fast):
    (said,) = json.loads((folder / "report.json").read_text())["robots"]
    (robot,) = robots_of_data([data], [HORIZON])
    raw = [chunk for chunk, _ in normalized(robot, 2, False)]
    dataset = robot.data[0].dataset
    actions = np.concatenate([dataset.vectors(episode).action for episode in dataset.episodes])
    low, high = np.quantile(actions, 0.01, axis=0), np.quantile(actions, 0.99, axis=0)
    inside = [np.clip(2 * (chunk - low) / (high - low) - 1, -1, 1) for chunk in raw]
    coded = [fast.encode(chunk) for chunk in inside]
    again = [np.clip(fast.decode(tokens, HORIZON, 3), -1, 1) for tokens in coded]
    off = np.stack([(a - b) * (high - low) / 2 for a, b in zip(inside, again, strict=True)])
    assert said["chunks"] == len(raw) == 20 * 20
    assert said["tokens_per_chunk"] == pytest.approx(np.mean([len(tokens) for tokens in coded]))
    assert said["values_per_token"] == pytest.approx(HORIZON * 3 / said["tokens_per_chunk"])
    for index, name in enumerate(JOINTS):
        assert said["joints"][name]["error_max"] == pytest.approx(np.abs(off[..., index]).max(), rel=1e-3)
        assert said["joints"][name]["error_rms"] == pytest.approx(math.sqrt((off[..., index] ** 2).mean()), rel=1e-3)
    there = low + (np.stack(inside) + 1) * (high - low) / 2
    cut = np.abs(np.stack(raw) - there).max(axis=(0, 1))
    np.testing.assert_allclose([said["joints"][n]["cut_off_max"] for n in JOINTS], cut, rtol=1e-3, atol=1e-6)


def test_each_robot_has_a_report_of_its_own(data, tmp_path, capsys):
    other = reaches(tmp_path / "other", 6, joints=[f"joint_{i}" for i in range(7)], robot="other", seed=9)
    out = tmp_path / "fast"
    command = ["fast", "train", str(data), str(other), "-o", str(out), "--horizon", "12", "--horizon", "20"]
    assert main(command) == 0
    said = json.loads((out / "report.json").read_text())["robots"]
    assert [(one["robot"], one["horizon"], one["action_dim"]) for one in said] == [("toy", 12, 3), ("other", 20, 7)]
    config = json.loads((out / "processor_config.json").read_text())
    assert (config["time_horizon"], config["action_dim"]) == (None, None)
    shown = capsys.readouterr().out
    assert "toy: " in shown
    assert "other: " in shown
    made = FastTokenizer.from_folder(out)
    chunk = -np.ones((20, 7))
    assert worst(chunk, made.decode(made.encode(chunk), 20, 7)) <= 0.5 / made.scale + 1e-6


def test_inspect_says_what_a_given_tokenizer_does_to_other_data(golden, tmp_path, capsys):
    data, said = reaches(tmp_path / "new", 3, seed=5), tmp_path / "said.json"
    command = ["fast", "inspect", str(golden.fast_tokenizer), str(data), "--horizon", "8", "--json", str(said)]
    assert main(command) == 0
    (robot,) = json.loads(said.read_text())["robots"]
    assert robot["chunks"] == 3 * 8
    assert f"{robot['values_per_token']:.2f} values a token" in capsys.readouterr().out


def test_inspect_counts_the_chunks_that_have_no_tokens(tmp_path, folder, capsys):
    """A tokenizer whose letters end too early."""
    config = json.loads((folder / "processor_config.json").read_text()) | {"min_token": -20}
    short = tmp_path / "short"
    short.mkdir()
    (short / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (short / "processor_config.json").write_text(json.dumps(config))
    data, said = reaches(tmp_path / "new", 3, seed=5), tmp_path / "said.json"
    assert main(["fast", "inspect", str(short), str(data), "--horizon", "12", "--json", str(said)]) == 0
    (robot,) = json.loads(said.read_text())["robots"]
    assert 0 < robot["inexpressible"] < robot["chunks"]
    assert f"NO TOKENS FOR   {robot['inexpressible']} chunks" in capsys.readouterr().out


def test_norm_statistics_say_range_and_horizon(data, tmp_path):
    stats = {key: [value] * 3 for key, value in (("q01", -4.0), ("q99", 4.0), ("min", -5.0), ("max", 5.0))}
    tags = {name: {"action_horizon": 9, "action_stats": stats, "state_stats": stats} for name in ("a", "b")}
    path = tmp_path / "norm_stats.json"
    path.write_text(json.dumps({"norm_mode": "q01_q99", "metadata_by_tag": tags}))
    out = tmp_path / "fast"
    command = ["fast", "train", str(data), "-o", str(out), "--norm-stats", str(path)]
    assert main(command) == 2
    assert main([*command, "--tag", "b"]) == 0
    (said,) = json.loads((out / "report.json").read_text())["robots"]
    assert (said["robot"], said["horizon"]) == ("b", 9)
    assert all(joint["cut_off_max"] < 1e-6 for joint in said["joints"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--horizon", "0"], "--horizon is 0"),
        (["--every", "0"], "--every is 0"),
        (["--scale", "nan"], "--scale is nan"),
        (["--scale", "1e6"], "--scale 1e+06 is too fine"),
        (["--vocabulary", "20"], "--vocabulary is 20; chunks of 30 steps at --scale 10 need 111"),
        (["--tag", "a"], "--norm-stats FILE, which is not given"),
        (["--horizon", "3", "--horizon", "4"], "--horizon is given 2 times"),
        (["--norm-stats", "nowhere.json"], "nowhere.json is missing"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_is_written(data, tmp_path, capsys, options, message):
    assert main(["fast", "train", str(data), "-o", str(tmp_path / "fast"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_actions_that_are_no_numbers_are_named_and_nothing_is_written(tmp_path, capsys):
    def spoil(actions):
        actions[5, 1] = np.nan

    data = reaches(tmp_path / "data", 5, spoil=spoil)
    assert main(["fast", "train", str(data), "-o", str(tmp_path / "fast")]) == 2
    assert "episode 3 has an action that is not finite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_corrected_set_is_refused_because_its_actions_make_no_chunks(tmp_path, capsys):
    data = reaches(tmp_path / "data", 5)
    (data / NOTES).write_text(json.dumps({CORRECTED: 3}))
    assert main(["fast", "train", str(data), "-o", str(tmp_path / "fast")]) == 2
    assert "data was corrected: its actions say" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_is_there_is_left_alone(data, folder, capsys):
    before = (folder / "tokenizer.json").read_bytes()
    assert main(["fast", "train", str(data), "-o", str(folder), "--vocabulary", "300"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (folder / "tokenizer.json").read_bytes() == before


def test_what_is_no_data_set_is_named(tmp_path, folder, capsys):
    assert main(["fast", "inspect", str(folder), str(tmp_path)]) == 2
    assert f"{tmp_path} is no LeRobot dataset" in capsys.readouterr().err
