# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 eval gym:...`: a policy in an environment with gymnasium's interface."""

import json

import gymnasium
import numpy as np
import pytest

from molmoact2_bringup.evaluation.gym_env import GymBench, load_map, make_environment
from molmoact2_contract import ContractError, find_resource
from molmoact2_contract.cli import main
from molmoact2_model import MolmoAct2Policy

TAG = "so101_sim_molmoact2_tiny"
MAP = """format: molmoact2_gym.v1
cameras: [pictures.front, pictures.wrist]
state: [joints, grip]
instruction: {attribute: wish}
actions: 5
success: {info: done}
limit: 12
make: {after: 7}
"""


class Follower(gymnasium.Env):
    """Joints go where they are told; done after so many steps. Remembers what it was asked."""

    wish = "pick up the red cube"
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (6,), np.float32)

    def __init__(self, after: int):
        self.after, self.told, self.seeds = after, [], []
        picture = gymnasium.spaces.Box(0, 255, (48, 64, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict({
            "pictures": gymnasium.spaces.Dict({"front": picture, "wrist": picture}),
            "joints": gymnasium.spaces.Box(-3, 3, (5,)), "grip": gymnasium.spaces.Box(0, 1, (1,)),
        })    # fmt: skip

    def _seen(self):
        picture = np.full((48, 64, 3), 90, np.uint8)
        return {
            "pictures": {"front": picture, "wrist": picture}, "joints": self.at[:5].astype(np.float32),
            "grip": self.at[5:].astype(np.float32),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.at, self.steps = np.array([0.0, -0.9, 0.75, 1.3, 0.0, 0.3]), 0
        return self._seen(), {}

    def step(self, action):
        self.told.append(action)
        self.at, self.steps = np.clip(action, -2, 2), self.steps + 1
        return self._seen(), 0.0, False, False, {"done": self.steps >= self.after}


gymnasium.register("Follower-v0", entry_point=Follower, disable_env_checker=True)


@pytest.fixture(scope="module")
def session():
    checkpoint = find_resource("checkpoints", "molmoact2-tiny-think-so101")
    return MolmoAct2Policy.from_pretrained(checkpoint).session(norm_tag=TAG, depth="off")


@pytest.fixture
def map_file(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(MAP)
    return path


def test_chunks_are_followed_waypoint_by_waypoint_until_the_environment_says_done(session, map_file):
    map_ = load_map(map_file)
    environment = make_environment("Follower-v0", map_.make)
    attempt = GymBench(environment, session, map_).attempt(3)
    world = environment.unwrapped
    assert attempt.success and attempt.seconds == 7 and attempt.instruction == world.wish
    assert len(attempt.latencies) == 2 and world.seeds == [3]    # five waypoints, then two of the next chunk
    session.reset()
    picture, state = np.full((48, 64, 3), 90, np.uint8), np.array([0.0, -0.9, 0.75, 1.3, 0.0, 0.3], np.float32)
    chunk = session.infer([picture, picture], state, world.wish, seed=30_000).actions
    np.testing.assert_allclose(world.told[:5], np.clip(chunk[:5], -2, 2), rtol=1e-6)


def test_the_command_counts_and_reports(map_file, tmp_path):
    checkpoint = str(find_resource("checkpoints", "molmoact2-tiny-think-so101"))
    command = ["eval", "gym:Follower-v0", "--map", str(map_file), "--checkpoint", checkpoint, "--norm-tag", TAG]
    assert main([*command, "--scenes", "0:2", "--depth", "off", "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/summary.json").read_text())["conditions"][0]
    assert (told["n"], told["successes"], told["condition"]) == (2, 2, "Follower-v0, depth off")
    assert (tmp_path / "out/report.html").is_file()


def test_what_stands_of_episodes_is_reported_after_an_interruption_and_the_same_command_goes_on(
    map_file, tmp_path, monkeypatch
):
    checkpoint = str(find_resource("checkpoints", "molmoact2-tiny-think-so101"))
    command = ["eval", "gym:Follower-v0", "--map", str(map_file), "--checkpoint", checkpoint, "--norm-tag", TAG]
    command += ["--scenes", "0:3", "--depth", "off", "--device", "cpu", "--out", str(tmp_path / "out")]
    attempt, tried = GymBench.attempt, []

    def cut(self, seed):
        if len(tried) == 2:
            raise KeyboardInterrupt
        tried.append(seed)
        return attempt(self, seed)

    monkeypatch.setattr(GymBench, "attempt", cut)
    assert main(command) == 130
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert told["conditions"][0]["n"] == 2 and told["attempts"].startswith("2 of 3")
    tried[:] = []
    assert main(command) == 0 and tried == [2]


def test_depth_is_used_where_the_checkpoint_has_it_and_options_of_systems_are_refused(map_file, tmp_path, capsys):
    checkpoint = str(find_resource("checkpoints", "molmoact2-tiny-think-so101"))
    command = ["eval", "gym:Follower-v0", "--map", str(map_file), "--checkpoint", checkpoint, "--norm-tag", TAG]
    command += ["--scenes", "0:1", "--out", str(tmp_path / "out")]
    options = (["--set", "world.scene=x"], ["--cache", "reference"], ["--latency", "0.3"], ["--mode", "live"])
    for option in (*options, ["--patience", "0"]):
        assert main([*command, *option]) == 2
        assert f"{option[0]} has no meaning for gym:Follower-v0" in capsys.readouterr().err
    assert main(command) == 0
    told = json.loads((tmp_path / "out/summary.json").read_text())["conditions"][0]
    assert told["condition"] == "Follower-v0, depth adaptive" and told["decoder_steps"] is not None


def test_an_episode_that_is_never_done_fails_at_the_limit(session, map_file):
    map_file.write_text(MAP.replace("after: 7", "after: 99"))
    map_ = load_map(map_file)
    attempt = GymBench(make_environment("Follower-v0", map_.make), session, map_).attempt(0)
    assert not attempt.success and attempt.reason == "the limit was reached" and attempt.seconds == 12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("pictures.wrist", "pictures.side"), "no 'pictures.side'; it has: front, wrist"),
        (("grip", "joints.x"), "no 'joints.x'"),
        (("attribute: wish", "attribute: hope"), "no text 'hope'"),
    ],
)
def test_what_the_environment_does_not_have_is_named(session, map_file, change, said):
    map_file.write_text(MAP.replace(*change))
    map_ = load_map(map_file)
    with pytest.raises(ContractError, match=said):
        GymBench(make_environment("Follower-v0", map_.make), session, map_).attempt(0)


def test_bad_maps_and_environments_that_are_not_there_are_refused(map_file, tmp_path, capsys):
    map_file.write_text(MAP + "colour: red\n")
    with pytest.raises(ContractError, match="colour is not known here"):
        load_map(map_file)
    with pytest.raises(ContractError, match="environment 'Nowhere-v0' cannot be made"):
        make_environment("Nowhere-v0", {})
    assert main(["eval", "gym:Follower-v0", "--out", str(tmp_path / "out")]) == 2
    assert "needs --map, --checkpoint and --norm-tag" in capsys.readouterr().err
