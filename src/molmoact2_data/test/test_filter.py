# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest
from hand_made import FPS, edit_column, following, moving, scene, write_older, write_set

from molmoact2_data.filter_report import chosen_rules, load_rules, report, told
from molmoact2_data.filtering import Result, judge, left
from molmoact2_data.keep import KEEP, Part, open_kept, write_keep
from molmoact2_data.layout import CORRECTED, DatasetError
from molmoact2_data.reader import Dataset
from molmoact2_data.rules import RULES, Span
from molmoact2_data.streaming import Share, Stream
from molmoact2_data.stretches import runs, still

LENGTH = 60
NAMES = ("pan", "lift", "gripper")


def sound(episodes: int = 3) -> list[np.ndarray]:
    return [moving(LENGTH, 3, seed) for seed in range(episodes)]


def pausing(first: int, end: int, seed: int = 1) -> np.ndarray:
    """Values that rest from one frame to the other and then go on."""
    times = np.arange(LENGTH)
    return moving(LENGTH, 3, seed)[np.where(times < first, times, np.maximum(first, times - (end - first)))]


def judged(root: Path, **wanted) -> Result:
    return judge(Dataset(root), chosen_rules(wanted))


def removed(result: Result) -> dict[str, list[tuple[int, int, int]]]:
    """Rule -> episode, first and end."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for finding in result.findings:
        found.setdefault(finding.rule, []).append((finding.episode, finding.first, finding.end))
    return found


def kept(result: Result) -> list[tuple[int, int, int]]:
    return [(part.episode.index, part.first, part.end) for part in result.parts]


WHOLE = [(episode, 0, LENGTH) for episode in range(3)]


# --- each rule finds its fault and no other ---------------------------------------------------------------------------
def test_nothing_is_removed_from_a_sound_set(tmp_path):
    result = judged(write_set(tmp_path / "set", sound(), names=NAMES))
    assert removed(result) == {} and kept(result) == WHOLE


def test_an_idle_stretch_is_removed_and_splits_its_episode(tmp_path):
    states = sound()
    states[1] = pausing(20, 45)
    result = judged(write_set(tmp_path / "set", states, names=NAMES))
    assert list(removed(result)) == ["idle"]
    ((episode, first, end),) = removed(result)["idle"]
    assert episode == 1 and 19 <= first <= 20 and 45 <= end <= 46
    assert kept(result) == [WHOLE[0], (1, 0, first), (1, end, LENGTH), WHOLE[2]]


def test_a_jump_cuts_the_episode_and_removes_no_frame(tmp_path):
    states = sound()
    states[2][30:, 0] += 0.9
    result = judged(write_set(tmp_path / "set", states, names=NAMES))
    # The state is elsewhere in frame 30, the action that leads there in frame 29.
    assert removed(result) == {"jump": [(2, 29, 29), (2, 30, 30)], "short": [(2, 29, 30)]}
    assert kept(result) == [*WHOLE[:2], (2, 0, 29), (2, 30, LENGTH)]


def test_a_gripper_may_jump(tmp_path):
    states = sound()
    states[2][30:, 2] += 3.0
    assert removed(judged(write_set(tmp_path / "set", states, names=NAMES))) == {}


def test_a_joint_that_is_hardly_used_is_not_judged_by_its_noise(tmp_path):
    states = sound()
    for seed, values in enumerate(states):
        values[:, 1] = np.random.default_rng(seed).choice([0.0, 0.001], len(values), p=[0.9, 0.1])
    assert removed(judged(write_set(tmp_path / "set", states, names=NAMES))) == {}


def test_a_gripper_that_is_hardly_used_beside_another_hides_no_idle_stretch(tmp_path):
    states = [np.hstack([values, values[:, 2:]]) for values in (*sound()[:1], pausing(20, 45), *sound()[2:])]
    for seed, values in enumerate(states):
        values[:, 3] = np.random.default_rng(seed).choice([0.0, 0.001], len(values), p=[0.9, 0.1])
    result = judged(write_set(tmp_path / "set", states, names=(*NAMES, "right gripper")))
    assert list(removed(result)) == ["idle"]


def test_a_clipped_joint_is_removed(tmp_path):
    states = sound()
    for values in states:
        values[:, 1] = np.minimum(values[:, 1], 0.6)
    result = judged(write_set(tmp_path / "set", states, names=NAMES))
    assert list(removed(result)) == ["saturated"] or set(removed(result)) == {"saturated", "short"}
    for episode, first, end in removed(result)["saturated"]:
        assert (states[episode][first:end, 1] == np.float32(0.6)).all()
    (worst,) = {finding.why.split()[0] for finding in result.findings if finding.rule == "saturated"}
    assert worst == "lift"


def test_an_arm_that_does_not_follow_is_removed(tmp_path):
    states = sound()
    actions = [following(values) for values in states]
    actions[0][10:40, 1] += 1.1
    root = write_set(tmp_path / "set", states, actions=actions, names=NAMES)
    found = removed(judged(root, jump=False))
    assert found == {"mismatch": [(0, 10, 40)]}


def test_a_corrected_sets_actions_are_not_held_against_what_was_done_and_the_report_says_so(tmp_path):
    states = sound()
    actions = [following(values) for values in states]
    actions[0][10:40, 1] += 1.1
    root = write_set(tmp_path / "set", states, actions=actions, names=NAMES, notes={CORRECTED: 3})
    result = judged(root, jump=False)
    assert removed(result) == {} and kept(result) == WHOLE
    assert "mismatch was not asked: the set was corrected" in told(report([result], chosen_rules({})))
    assert "was not asked" not in told(report([judged(root, mismatch=False)], chosen_rules({})))


def test_other_values_in_the_action_than_in_the_state_are_not_compared(tmp_path):
    """Velocities, say."""
    states = sound()
    root = write_set(tmp_path / "set", states, actions=[5 * np.gradient(v, axis=0) for v in states], names=NAMES)
    assert "mismatch" in removed(judged(root))
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["action"]["names"] = ["pan.vel", "lift.vel", "gripper.vel"]
    (root / "meta/info.json").write_text(json.dumps(info))
    assert removed(judged(root)) == {}


def test_black_images_are_removed(tmp_path):
    def images(episode, frame):
        return np.zeros((32, 48, 3), np.uint8) if episode == 1 and 20 <= frame < 40 else scene(frame, episode)

    result = judged(write_set(tmp_path / "set", sound(), images=images, names=NAMES), frozen=False)
    assert list(removed(result)) == ["black"]
    ((episode, first, end),) = removed(result)["black"]
    assert episode == 1 and 20 <= first < 22 and 38 <= end <= 41


def test_a_frozen_camera_is_removed_and_one_that_watches_a_still_arm_is_not(tmp_path):
    def images(episode, frame):
        return scene(min(frame, 25) if frame < 50 else frame, episode)

    states = sound()
    states[1] = pausing(25, 50)
    result = judged(write_set(tmp_path / "set", states, images=images, names=NAMES), idle=False)
    assert {rule for rule in removed(result)} == {"frozen"}
    found = {episode: (first, end) for episode, first, end in removed(result)["frozen"]}
    assert set(found) == {0, 2}
    assert all(24 <= first <= 28 and 47 <= end <= 51 for first, end in found.values())


def test_frames_at_another_rate_are_removed(tmp_path):
    root = write_older(tmp_path / "set", sound(), names=NAMES)
    table = root / "data/chunk-000/episode_000001.parquet"
    edit_column(table, "timestamp", lambda times: [1.3 * time for time in times])
    result = judged(root)
    assert removed(result) == {"rate": [WHOLE[1]]} and kept(result) == [WHOLE[0], WHOLE[2]]
    assert result.findings[0].why == "130 ms lie between frames 0 and 1, 100 ms are stated"


def test_what_is_too_short_is_removed(tmp_path):
    states = sound()
    states[0] = states[0][:4]
    assert removed(judged(write_set(tmp_path / "set", states, names=NAMES))) == {"short": [(0, 0, 4)]}


def test_an_episode_that_comes_twice_is_kept_once_also_across_data_sets(tmp_path):
    states = sound()
    states[2] = states[0]
    root = write_set(tmp_path / "set", states, names=NAMES, tasks=["do this", "do that", "do this"])
    assert removed(judged(root)) == {"duplicates": [WHOLE[2]]}
    rules = chosen_rules({})
    again = write_set(tmp_path / "again", states[:2], names=NAMES, tasks=["do this", "do another"])
    judge(Dataset(root), rules)
    found = judge(Dataset(again), rules)
    assert [(finding.episode, finding.why) for finding in found.findings] == [
        (0, f"the same numbers as {root}, episode 0")
    ]


@pytest.mark.parametrize("task", ["", "  ", "None", "n/a", "task", "?!", "ab"])
def test_an_instruction_without_meaning_is_removed(tmp_path, task):
    root = write_set(tmp_path / "set", sound(), names=NAMES, tasks=["do this", task, "place the cup"])
    assert removed(judged(root)) == {"language": [WHOLE[1]]}


def test_what_cannot_be_read_is_removed_whatever_rules_are_on(tmp_path):
    root = write_older(tmp_path / "set", sound(), names=NAMES)
    (root / "videos/chunk-000/observation.images.front/episode_000000.mp4").unlink()
    table = root / "data/chunk-000/episode_000001.parquet"
    edit_column(table, "action", lambda rows: [*rows[:-1], [float("nan")] * 3])
    result = judge(Dataset(root), [])
    assert removed(result) == {"unreadable": WHOLE[:2]} and kept(result) == [WHOLE[2]]
    assert "episode_000000.mp4 is missing" in result.findings[0].why
    assert "frame 59 has a state or action that is not finite" in result.findings[1].why


# --- thresholds -------------------------------------------------------------------------------------------------------
def test_rules_can_be_turned_off_and_thresholds_set(tmp_path):
    states = sound()
    states[1] = pausing(20, 45)
    root = write_set(tmp_path / "set", states, names=NAMES)
    assert removed(judged(root, idle=False)) == {}
    assert removed(judged(root, idle={"seconds": 3.0})) == {}
    assert removed(judged(root, idle={"seconds": 2.4})) != {}
    path = tmp_path / "rules.yaml"
    path.write_text("idle: {seconds: 3}\nblack: false\n")
    rules = chosen_rules(load_rules(path))
    assert "black" not in [rule.name for rule in rules] and len(rules) == len(RULES) - 1


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"lazy": True}, "there is no rule 'lazy'; there are: rate, language"),
        ({"idle": {"minutes": 1}}, "rule idle has no 'minutes'; it has: seconds, still"),
        ({"idle": {"seconds": -1}}, "idle.seconds is -1, expected a number above 0"),
        ({"idle": {"seconds": "two"}}, "idle.seconds is 'two'"),
        ({"idle": {"seconds": float("nan")}}, "idle.seconds is nan"),
        ({"idle": 3}, "rule idle is 3, expected true, false or a table"),
        ({"duplicates": {"_seen": 1}}, "rule duplicates has no '_seen'"),
    ],
)
def test_rules_that_there_are_not_are_refused(wanted, words):
    with pytest.raises(DatasetError, match=words):
        chosen_rules(wanted)


# --- the report and the list ------------------------------------------------------------------------------------------
def test_the_report_adds_up(tmp_path):
    states = sound()
    states[1] = pausing(20, 45)
    result = judged(write_set(tmp_path / "set", states, names=NAMES))
    content = report([result], chosen_rules({}))
    (one,) = content["data"]
    idle = one["removed"]["idle"]
    assert one["frames"] == 180 and one["kept_frames"] == 180 - idle["frames"] == result.frames
    assert (one["kept_episodes"], one["kept_parts"], idle["episodes"]) == (3, 4, 1)
    text = told(json.loads(json.dumps(content)))
    assert f"{result.frames} of 180 frames kept" in text and RULES["idle"].why in text


def test_no_chunk_of_actions_reaches_across_what_was_left_out(tmp_path):
    states = [np.cumsum(np.full((LENGTH, 3), 0.01), axis=0).astype(np.float32)]
    root = write_set(tmp_path / "set", states, names=NAMES)
    data = Dataset(root)
    write_keep(tmp_path / "kept", data, [Part(data.episodes[0], 5, 20), Part(data.episodes[0], 30, 50)], {})
    frames = list(Stream([Share(tmp_path / "kept")], 8, 0, every=1).once())
    assert sorted(frame.frame for frame in frames) == [*range(5, 20), *range(30, 50)]
    told_by = following(states[0])
    for frame in frames:
        end = 20 if frame.frame < 20 else 50
        steps = np.arange(frame.frame, frame.frame + 8)
        assert np.array_equal(frame.valid, steps < end)
        assert np.array_equal(frame.chunk, told_by[np.minimum(steps, end - 1)])


def test_a_list_follows_its_data_set_when_both_are_moved(tmp_path):
    root = write_set(tmp_path / "here/set", sound(), names=NAMES)
    result = judged(root)
    write_keep(tmp_path / "here/kept", result.dataset, result.parts[:1], {})
    (tmp_path / "here").rename(tmp_path / "there")
    dataset, parts = open_kept(tmp_path / "there/kept")
    assert dataset.root == tmp_path / "there/set" and [part.episode.index for part in parts] == [0]


def test_a_list_of_another_state_of_the_data_is_refused(tmp_path):
    root = write_set(tmp_path / "set", sound(), names=NAMES)
    write_keep(root, Dataset(root), judged(root).parts, {})
    path = root / KEEP
    content = json.loads(path.read_text())
    for change, words in (
        ({"of": {"episodes": 3, "frames": 17}}, "is of another state of"),
        ({"keep": {"0": [[0, 99]]}}, "episode 0 has no frames 0 to 98; it has 60"),
        ({"keep": {"7": [[0, 9]]}}, "'keep' is not episodes with parts"),
        ({"dataset": "../elsewhere"}, "elsewhere is no LeRobot dataset"),
        ({"format": "other"}, "its format is not"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(DatasetError, match=words):
            open_kept(root)


# --- stretches --------------------------------------------------------------------------------------------------------
def test_left_is_what_no_span_covers_cut_where_spans_say():
    spans = [Span(2, 4, ""), Span(3, 6, ""), Span(8, 8, ""), Span(4, 4, ""), Span(0, 0, "")]
    assert left(10, spans) == [(0, 2), (6, 8), (8, 10)]
    assert left(5, []) == [(0, 5)] and left(5, [Span(0, 5, "")]) == []


def test_still_stretches_are_found_whatever_their_place_and_length():
    random = np.random.default_rng(1)
    for least in (1, 3, 10):
        for length in (least, least + 1, 2 * least, 5 * least + 2):
            values = np.cumsum(random.choice([-1, 1], (60, 2)), axis=0).astype(float)
            first = int(random.integers(60 - length + 1))
            values[first : first + length] = 100
            assert (first, first + length) in still(values, 0.4, max(2, least)) or length < 2
    assert still(np.arange(20.0)[:, None], 2.5, 3) == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 18)]


def test_runs_are_as_long_as_asked():
    holds = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
    assert runs(holds, 1) == [(0, 2), (3, 6), (7, 8)] and runs(holds, 3) == [(3, 6)] and runs(~holds[:0], 1) == []


assert FPS == 10, "the frames above are counted at ten a second"
