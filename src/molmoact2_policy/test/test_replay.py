# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Replay of a run that the real policy node made over DDS."""

import shutil

import numpy as np
import pytest
import rclpy
from bag_samples import CHUNKS, JOINTS, STATUSES, TOP, TRACES, copied, record_a_run, replayed
from rosbags.typesys import Stores, get_typestore

from molmoact2_contract import cli
from molmoact2_msgs.msg import ReasoningTrace
from molmoact2_policy.bags.bag import Bag, stamp_ns
from molmoact2_policy.bags.offline import open_writer

INFERENCES = 6


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return record_a_run(tmp_path_factory.mktemp("run") / "bag", INFERENCES, noise_scale=0.6, smoothing=0.5)


@pytest.fixture
def replay(tmp_path, capsys):
    return lambda path, *arguments: replayed(path, tmp_path / "out", capsys, *arguments)


def traces_of(bag, topic=TRACES):
    with Bag(bag) as opened:
        return [message for _, _, message, _ in opened.messages({topic})]


def adaptive(trace):
    return trace.depth_mode == ReasoningTrace.DEPTH_ADAPTIVE


def test_a_replay_gives_the_recorded_inputs_codes_and_actions_bit_by_bit(bag, replay, tmp_path):
    old = traces_of(bag)
    assert len(old) >= 2 * INFERENCES
    assert any(adaptive(t) for t in old) and len({t.episode_id for t in old}) >= 2
    assert any(len(t.prefix) and t.prefix_frozen for t in old), "some continue a running chunk"

    code, summary, printed = replay(bag)

    assert code == 0, printed
    assert (summary["traces"], summary["repeated"]) == (len(old), len(old))
    assert summary["equality_of_results_promised"] and summary["equality_of_inputs_promised"]
    assert all(part["equal"] == len(old) for part in summary["equality"].values())
    assert not rclpy.ok(), "no ROS graph was entered"
    new = traces_of(tmp_path / "out/bag", "/replay" + TRACES)
    assert [t.trace_id for t in new] == [t.trace_id for t in old]
    for a, b in zip(old, new, strict=True):
        assert np.array_equal(a.codes, b.codes) and np.array_equal(a.model_state, b.model_state)
    chunks = {c.chunk_id: c for c in traces_of(bag, CHUNKS)}
    for chunk in traces_of(tmp_path / "out/bag", "/replay" + CHUNKS):
        assert chunk.positions.tobytes() == chunks[chunk.chunk_id].positions.tobytes()


def test_one_changed_code_is_named_and_ends_with_one(bag, replay, tmp_path):
    wrong = traces_of(bag)[2].trace_id

    def change(topic, message):
        if topic == TRACES and message.trace_id == wrong:
            message.codes[41] ^= 1
        return message

    code, summary, printed = replay(copied(bag, tmp_path / "changed", change))
    assert code == 1
    assert summary["mismatches"] == {"inferences": 1, "listed": [{"trace": wrong, "unequal": ["codes"]}]}
    assert f"NOT EQUAL in {wrong}: codes" in printed


@pytest.mark.parametrize("what", ["pixel", "joint", "action"])
def test_one_changed_bit_of_what_was_used_or_asked_for_is_found(bag, replay, tmp_path, what):
    trace = next(t for t in traces_of(bag)[2:] if t.inputs[-1].stamp == t.inputs[-2].stamp)

    def change(topic, message):
        if what == "pixel" and topic == TOP and stamp_ns(message.header.stamp) == stamp_ns(trace.header.stamp):
            message.data[17] ^= 1
        if what == "joint" and topic == JOINTS and message.header.stamp == trace.inputs[-1].stamp:
            message.position[0] = np.nextafter(np.float32(message.position[0]), np.float32(9))
        if what == "action" and topic == CHUNKS and message.trace_id == trace.trace_id:
            message.positions[5] = np.nextafter(message.positions[5], 9)
        return message

    code, summary, _ = replay(copied(bag, tmp_path / "changed", change))
    assert code == 1
    found = {entry["trace"]: entry["unequal"] for entry in summary["mismatches"]["listed"]}
    assert {"pixel": "images", "joint": "state", "action": "actions"}[what] in found[trace.trace_id]


def test_an_inference_whose_image_is_missing_is_listed_and_what_depends_on_it_waits_for_a_full_pass(
    bag, replay, tmp_path
):
    old = traces_of(bag)
    lost = next(i for i, t in enumerate(old) if i and not adaptive(old[i - 1]) and adaptive(t))
    again = next(i for i, t in enumerate(old) if i > lost and not adaptive(t))

    def change(topic, message):
        gone = topic == TOP and stamp_ns(message.header.stamp) == stamp_ns(old[lost].header.stamp)
        return None if gone else message

    code, summary, printed = replay(copied(bag, tmp_path / "changed", change))
    assert code == 0, printed
    listed = summary["not_repeated"]["listed"]
    assert [entry["trace"] for entry in listed] == [t.trace_id for t in old[lost:again]]
    assert "/top/image_raw stamped" in listed[0]["why"] and "not in the bag" in listed[0]["why"]
    assert all(f"depends on {old[lost].trace_id}" in entry["why"] for entry in listed[1:])
    assert summary["repeated"] == len(old) - len(listed)
    assert all(not part["unequal"] for part in summary["equality"].values())


def test_a_bag_that_begins_in_the_middle_or_lacks_a_trace_is_replayed_from_the_next_full_pass(bag, replay, tmp_path):
    old = traces_of(bag)
    lost = next(i for i, t in enumerate(old) if not adaptive(t))
    again = next(i for i, t in enumerate(old) if i > lost and not adaptive(t))

    def change(topic, message):
        return None if topic == TRACES and message.trace_id == old[lost].trace_id else message

    code, summary, _ = replay(copied(bag, tmp_path / "changed", change))
    assert code == 0
    assert [entry["trace"] for entry in summary["not_repeated"]["listed"]] == [t.trace_id for t in old[lost + 1:again]]


def test_with_other_settings_nothing_is_promised_and_differences_are_told(bag, replay):
    code, summary, printed = replay(bag, "--depth", "full")
    assert code == 0
    assert summary["because_not"] == ["depth was adaptive and is full"]
    assert summary["repeated"] == summary["traces"]
    assert summary["equality"]["state"]["unequal"] == summary["equality"]["images"]["unequal"] == 0
    assert summary["equality"]["mode and cause"]["equal"] == 0
    assert "is not promised: depth was adaptive and is full" in printed


@pytest.mark.parametrize("depth", ["off", "full"])
def test_without_a_cache_no_inference_depends_on_another(replay, tmp_path, depth):
    bag = record_a_run(tmp_path / "bag", 3, depth=depth)
    old = traces_of(bag)
    first, lost = old[0].trace_id, old[2]

    def change(topic, message):
        if topic == TRACES and message.trace_id == first:
            return None
        gone = topic == TOP and stamp_ns(message.header.stamp) == stamp_ns(lost.header.stamp)
        return None if gone else message

    code, summary, printed = replay(copied(bag, tmp_path / "changed", change))
    assert code == 0, printed
    assert [entry["trace"] for entry in summary["not_repeated"]["listed"]] == [lost.trace_id]
    assert summary["equality"]["actions"]["equal"] == summary["repeated"] == len(old) - 2


def test_what_was_made_with_other_settings_than_the_first_is_listed(bag, replay, tmp_path):
    """As by a policy that was configured anew while the recorder ran."""
    old = traces_of(bag)
    second = next(i for i, t in enumerate(old) if i and t.episode_id != old[0].episode_id)
    seen = []

    def change(topic, message):
        if topic == TRACES:
            seen.append(message)
        if topic == STATUSES and len(seen) >= second and message.setting_names:
            message.setting_values[message.setting_names.index("num_steps")] = "7"
        return message

    code, summary, _ = replay(copied(bag, tmp_path / "changed", change))
    listed = summary["not_repeated"]["listed"]
    assert code == 0 and 0 < len(listed) <= len(old) - second + 1
    assert all("configured anew before it, with another num_steps" in entry["why"] for entry in listed)
    assert all(not part["unequal"] for part in summary["equality"].values())


def test_a_bag_of_an_older_version_is_refused_with_what_its_traces_lack(bag, replay, tmp_path):
    with Bag(bag) as opened:
        kind = "molmoact2_msgs/msg/ReasoningTrace"
        constants, fields = opened.typestore.fielddefs[kind]
        older = get_typestore(Stores.ROS2_JAZZY)
        definitions = {name: opened.typestore.fielddefs[name] for name in opened.typestore.fielddefs}
        definitions[kind] = (constants, [field for field in fields if field[0] != "clock_before"])
        older.register({name: value for name, value in definitions.items() if name.startswith("molmoact2_msgs/")})
        writer = open_writer(tmp_path / "older")
        for topic, typename in opened.types.items():
            writer.add_connection(topic, typename, typestore=older)
            for _, _, message, receive_ns in opened.messages({topic} - {TRACES}):
                data = opened.typestore.serialize_cdr(message, typename)
                writer.write(writer.connections[-1], receive_ns, bytes(data))
        writer.close()
    code, _, printed = replay(tmp_path / "older")
    assert code == 2 and "its traces lack clock_before" in printed and "--fresh" in printed


def test_a_bag_without_any_full_pass_ends_with_one_and_says_so(bag, replay, tmp_path):
    def change(topic, message):
        return None if topic == TRACES and not adaptive(message) else message

    code, summary, printed = replay(copied(bag, tmp_path / "changed", change))
    assert (code, summary["repeated"]) == (1, 0)
    assert "no inference could be made" in printed


def test_a_bag_that_was_cut_off_is_refused_with_its_name(bag, replay, tmp_path):
    cut = shutil.copytree(bag, tmp_path / "cut")
    (file,) = cut.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:100_000])
    code, summary, printed = replay(cut)
    assert (code, summary) == (2, None)
    assert str(cut) in printed and "Traceback" not in printed


def test_of_a_bag_that_was_cut_off_half_way_what_is_there_is_replayed_and_it_is_said(bag, replay, tmp_path):
    cut = shutil.copytree(bag, tmp_path / "cut")
    (file,) = cut.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(0.5 * file.stat().st_size)])
    code, summary, printed = replay(cut)
    assert code == 0 and 0 < summary["repeated"] < len(traces_of(bag))
    assert "is cut off" in printed and any("is cut off" in text for text in summary["the_bag_lacks"])


def test_a_checkpoint_that_is_not_there_and_a_missing_bag_are_bad_input(bag, replay, tmp_path):
    code, _, printed = replay(bag, "--checkpoint", str(tmp_path / "nowhere"))
    assert code == 2 and "nowhere" in printed and "--checkpoint" in printed
    code, _, printed = replay(tmp_path / "no_bag")
    assert code == 2 and "no_bag does not exist" in printed


def test_a_folder_that_is_no_earlier_replays_is_left_alone(bag, tmp_path, capsys):
    kept = tmp_path / "out/mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    assert cli.main(["replay", str(bag), "--out", str(kept.parent)]) == 2
    assert "not an earlier replay's folder" in capsys.readouterr().err
    assert kept.read_text() == "mine"


def test_a_folder_from_which_is_to_be_read_is_not_replaced(bag, replay, tmp_path, capsys):
    assert replay(bag)[0] == 0
    out = tmp_path / "out"
    for arguments in ((str(out / "bag"), "--out", str(out)), (str(bag), "--out", str(out), "--compare", str(out))):
        assert cli.main(["replay", *arguments]) == 2
        assert "which is to be read" in capsys.readouterr().err
    assert (out / "summary.json").exists()
