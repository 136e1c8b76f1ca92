# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""molmoact2 fast encode and decode: chunks come back from a file as they were, within the rounding of the tokenizer."""

import json

import numpy as np
import pytest
from pyarrow import parquet
from scipy.fft import dct
from test_fast_train import HORIZON, JOINTS, reaches

from molmoact2_contract.cli import main
from molmoact2_model import FastTokenizer
from molmoact2_model.training.fast_data import robots_of_data

ARM = [f"joint_{index}" for index in range(5)]
LONGER = 20


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Of two robots: the second has other joints, and another horizon in what follows."""
    folder = tmp_path_factory.mktemp("data")
    return reaches(folder / "toy", 4), reaches(folder / "arm", 3, joints=ARM, robot="arm", seed=7)


@pytest.fixture(scope="module")
def folder(sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted") / "fast"
    assert main(["fast", "train", *map(str, sets), "-o", str(out), "--horizon", str(LONGER)]) == 0
    return out


def encode(folder, out, *data, horizons=(HORIZON,), more=()):
    given = [word for horizon in horizons for word in ("--horizon", str(horizon))]
    return main(["fast", "encode", str(folder), *map(str, data), "-o", str(out), *given, *more])


def decode(folder, tokens, out):
    return main(["fast", "decode", str(folder), str(tokens), "-o", str(out)])


@pytest.fixture(scope="module")
def encoded(sets, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("coded") / "new/tokens.parquet"
    assert encode(folder, out, *sets, horizons=(HORIZON, LONGER), more=("--json", str(out.parent.parent / "said"))) == 0
    return out


def test_chunks_come_back_within_the_rounding_of_their_coefficients(sets, folder, encoded, tmp_path):
    assert decode(folder, encoded, tmp_path / "chunks.parquet") == 0
    rows = parquet.read_table(tmp_path / "chunks.parquet").to_pylist()
    said = {robot["robot"]: robot for robot in json.loads((encoded.parent.parent / "said").read_text())["robots"]}
    scale, read = FastTokenizer.from_folder(folder).scale, iter(rows)
    for robot in robots_of_data(sets, [HORIZON, LONGER]):
        most = np.zeros(len(robot.joints))
        for place, raw in zip(robot.places(5), robot.chunks(5), strict=True):
            row = next(read)
            assert (row["robot"], row["dataset"]) == (robot.name, str(place.root))
            assert (row["episode_index"], row["frame_index"]) == (place.episode, place.frame)
            chunk = np.float32(row["chunk"]).reshape(raw.shape)
            off = robot.normalizer.normalize(chunk) - robot.normalizer.normalize(raw)
            # Both are cut off at the ends of the range, which makes no value's error larger.
            assert np.sqrt((off**2).sum(0)).max() <= 0.5 / scale * np.sqrt(robot.horizon) + 1e-5
            inside = np.abs(robot.normalizer.normalize(chunk)).max(0) < 1
            assert np.abs(dct(off, axis=0, norm="ortho"))[:, inside].max(initial=0) <= 0.5 / scale + 1e-5
            there = robot.normalizer.unnormalize(robot.normalizer.normalize(raw))
            most = np.maximum(most, np.abs(chunk - there).max(0))
        told = [said[robot.name]["joints"][name]["error_max"] for name in robot.joints]
        np.testing.assert_allclose(told, most, atol=1e-5)
        assert min(most) > 0
    assert next(read, None) is None and len(rows) == (4 + 3) * 8


def test_encode_says_what_each_robot_costs(sets, folder, encoded, tmp_path, capsys):
    """tokens a chunk, values a token, and by joint the error, the same as inspect says; and where the largest is."""
    again = tmp_path / "tokens.parquet"
    assert encode(folder, again, sets[0]) == 0
    table = capsys.readouterr().out
    assert main(["fast", "inspect", str(folder), str(sets[0]), "--horizon", str(HORIZON)]) == 0
    assert table == capsys.readouterr().out + f"{again}\n"
    toy, arm = json.loads((encoded.parent.parent / "said").read_text())["robots"]
    assert set(toy["joints"]) == set(JOINTS) and set(arm["joints"]) == set(ARM)
    tokens = parquet.read_table(encoded).to_pylist()
    lengths = [len(row["tokens"]) for row in tokens if row["robot"] == "arm"]
    assert arm["tokens_per_chunk"] == pytest.approx(np.mean(lengths)) and arm["most_tokens"] == max(lengths)
    assert arm["values_per_token"] == pytest.approx(LONGER * 5 / np.mean(lengths))
    assert f"largest at  {sets[0]}: episode {toy['error_max_at']['episode']}, frame" in table


def test_chunks_without_tokens_are_left_out_and_told(sets, folder, tmp_path, capsys):
    """A tokenizer whose letters end too early."""
    short = tmp_path / "short"
    short.mkdir()
    (short / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    config = json.loads((folder / "processor_config.json").read_text()) | {"min_token": -20}
    (short / "processor_config.json").write_text(json.dumps(config))
    assert encode(short, tmp_path / "tokens", sets[0]) == 0
    rows = parquet.read_table(tmp_path / "tokens").to_pylist()
    said = capsys.readouterr().out
    assert 0 < len(rows) < 4 * 8
    assert f"NO TOKENS FOR   {4 * 8 - len(rows)} chunks, the first at {sets[0]}: episode " in said
    assert decode(short, tmp_path / "tokens", tmp_path / "chunks") == 0
    assert f"toy: {len(rows)} chunks" in capsys.readouterr().out


def rewritten(encoded, path, change, about=None):
    """The file with other rows, or another description of them."""
    table = parquet.read_table(encoded)
    rows, schema = table.to_pylist(), table.schema
    change(rows)
    if about is not None:
        content = json.loads(schema.metadata[b"molmoact2"])
        about(content)
        schema = schema.with_metadata({b"molmoact2": json.dumps(content).encode()})
    parquet.write_table(table.from_pylist(rows, schema), path)
    return path


@pytest.mark.parametrize(
    ("rows", "about", "said"),
    [
        (lambda rows: rows[9]["tokens"].append(rows[9]["tokens"][0]), None, "a chunk of 12 steps and 3 dimensions has"),
        (lambda rows: rows[9].update(tokens=[5000]), None, "FAST tokens [5000] are outside the tokenizer's"),
        (lambda rows: rows[9].update(tokens=None), None, "has no tokens, or an empty one among them"),
        (lambda rows: rows[9].update(robot="other"), None, "is of robot 'other'; the file describes: toy, arm"),
        (lambda rows: None, lambda about: about["robots"]["toy"].update(horizon=9), "a chunk of 9 steps and 3"),
        (lambda rows: None, lambda about: about["robots"]["arm"]["joints"].pop(), "arm: 20 waypoints, 4 joints, stat"),
        (lambda rows: None, lambda about: about.pop("robots"), "what it says of its robots cannot be (KeyError"),
        (lambda rows: None, lambda about: about.update(tokenizer="0"), "was encoded with another tokenizer than"),
        (lambda rows: None, lambda about: about.update(format="v0"), "its format is not 'molmoact2_fast_tokens.v1'"),
    ],
)
def test_what_spells_no_chunk_is_named_and_nothing_is_written(folder, encoded, tmp_path, capsys, rows, about, said):
    spoilt = rewritten(encoded, tmp_path / "spoilt", rows, about)
    assert decode(folder, spoilt, tmp_path / "chunks") == 2
    error = capsys.readouterr().err
    assert str(spoilt) in error and said in error
    assert about is not None or "toy: episode 1, frame 5" in error
    assert [path.name for path in tmp_path.iterdir()] == ["spoilt"]


def test_what_encode_did_not_write_and_what_stands_already_is_refused(sets, folder, encoded, tmp_path, capsys):
    assert decode(folder, tmp_path / "nowhere", tmp_path / "chunks") == 2
    assert "nowhere cannot be read" in capsys.readouterr().err
    (tmp_path / "text").write_text("no parquet")
    assert decode(folder, tmp_path / "text", tmp_path / "chunks") == 2
    assert "text cannot be read" in capsys.readouterr().err
    before = encoded.read_bytes()
    assert decode(folder, encoded, encoded) == 2 and encode(folder, encoded, sets[0]) == 2
    assert capsys.readouterr().err.count("is there already") == 2 and encoded.read_bytes() == before


def test_chunks_of_one_name_and_two_shapes_are_not_put_in_one_file(sets, folder, tmp_path, capsys):
    other = reaches(tmp_path / "other", 1, joints=ARM, robot="toy")
    assert encode(folder, tmp_path / "tokens", sets[0], other) == 2
    assert "robot 'toy' has chunks of two shapes; encode them to a file each" in capsys.readouterr().err
    assert not (tmp_path / "tokens").exists()


def test_a_norm_tag_gives_its_range_horizon_and_mask_to_the_file(sets, folder, tmp_path):
    stats = {key: [value] * 3 for key, value in (("q01", -4.0), ("q99", 4.0), ("min", -5.0), ("max", 5.0))}
    stats |= {"mask": [True, True, False]}
    tags = {name: {"action_horizon": 9, "action_stats": stats, "state_stats": stats} for name in ("a", "b")}
    (tmp_path / "norm.json").write_text(json.dumps({"norm_mode": "q01_q99", "metadata_by_tag": tags}))
    given = ("--norm-stats", str(tmp_path / "norm.json"), "--tag", "b")
    assert encode(folder, tmp_path / "tokens", sets[0], horizons=(), more=given) == 0
    (tmp_path / "norm.json").unlink()    # the file has it all
    assert decode(folder, tmp_path / "tokens", tmp_path / "chunks") == 0
    rows = parquet.read_table(tmp_path / "chunks").to_pylist()
    assert {row["robot"] for row in rows} == {"b"}
    bound = 0.5 / FastTokenizer.from_folder(folder).scale * np.sqrt(9) + 1e-5
    (robot,) = robots_of_data(sets[:1], [9])
    for row, raw in zip(rows, robot.chunks(5), strict=True):
        off = np.abs(np.float32(row["chunk"]).reshape(9, 3) - np.clip(raw, [-4, -4, -1], [4, 4, 1]))
        assert (off.max(0) <= bound * np.array([4, 4, 1])).all()
