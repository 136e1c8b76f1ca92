# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The launch file of each robot, read as text: launch itself comes with a ROS distribution (test_launch.py)."""

import ast
from pathlib import Path

import pytest

from molmoact2_contract import load_system

ROOT = Path(__file__).resolve().parents[3]
GENERAL = ("system", "view")
FILES = [path for path in sorted((ROOT / "launch").glob("*.launch.py")) if path.name.split(".")[0] not in GENERAL]
ROBOTS = [path.name.split(".")[0] for path in FILES if "_sim" not in path.name]
UNMODELLED = ("so100", "panda_droid")    # no package that is installed has a model of it
# Parts of a robot, what leads one, and doubles are started by system.launch.py.
OTHERS = ("_double", "_robot", "_policy", "_teleop")


def included(path):
    """Names of the systems that a launch file includes."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "include_system"]
    return [ast.literal_eval(call.args[0]) for call in named]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_launch_file_starts_the_system_of_its_own_name(path):
    name = path.name.removesuffix(".launch.py")
    assert included(path) == [name]
    assert load_system(name).processes


def test_each_robot_and_each_simulated_twin_has_a_launch_file():
    systems = {path.stem for path in (ROOT / "config/systems").glob("*.yaml") if not path.stem.endswith(OTHERS)}
    assert {path.name.removesuffix(".launch.py") for path in FILES} == systems


@pytest.mark.parametrize("name", [name for name in ROBOTS if name not in UNMODELLED])
def test_each_robot_that_is_modelled_has_a_simulated_twin_with_its_contract_and_its_arms(name):
    real, twin = load_system(name), load_system(f"{name}_sim")
    assert twin.simulation and twin.contract.path == real.contract.path
    assert list(twin.controllers) == list(real.controllers)
    assert {process.parameters["driver"] for process in twin.controllers.values()} == {"mujoco"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_real_robot_begins_in_shadow_unarmed_without_depth_and_with_every_camera_of_its_policy(path):
    system = load_system(path.name.removesuffix(".launch.py"))
    if system.simulation:
        assert "_sim" in path.name
        return
    for controller in system.controllers.values():
        assert controller.parameters["shadow"] is True and controller.parameters["auto_arm"] is False
    policies = [process for process in system.processes if process.executable == "policy"]
    cameras = [process.parameters["camera"] for process in system.processes if process.package == "camera_driver"]
    for policy in policies:
        assert policy.parameters["depth"] == "off"
        assert cameras == list(system.contract.norm_tag(policy.parameters["norm_tag"]).cameras)
