# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import re
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
ROOT = SCRIPTS.parent


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_wrong_folders_of_the_wheels_are_replaced_and_nothing_else():
    mended = load("mend_wheels").mended
    text = (
        'set_target_properties(x INTERFACE "/opt/python/cp311-cp311/include/python3.11;'
        '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include;/opt/other")'
    )
    once = mended(text, "/venv/include", "/venv/numpy")
    assert once == 'set_target_properties(x INTERFACE "/venv/include;/venv/numpy;/opt/other")'
    assert mended(once, "/venv/include", "/venv/numpy") == once


def sourced(shell: str, text: str, tmp_path: Path, variable: str, **given: str) -> str:
    file = tmp_path / "env.sh"
    file.write_text(text)
    script = f'. "{file}"; . "{file}"; printf %s "${variable}"'
    done = subprocess.run(
        [shell, "-c", script], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin", **given}
    )
    assert done.stderr == ""
    return done.stdout


def test_the_environment_file_can_be_sourced_twice_by_sh_and_bash_and_adds_each_path_once(tmp_path):
    text = load("write_env").environment_file(Path("/somewhere"), "")
    for shell in ("sh", "bash"):
        assert sourced(shell, text, tmp_path, "AMENT_PREFIX_PATH") == "/somewhere/.venv"
        assert sourced(shell, text, tmp_path, "PATH").count("/somewhere/.venv/bin") == 1


def test_wheels_are_given_shared_memory_that_holds_images_unless_a_profile_is_named(tmp_path):
    text, variable = load("write_env").environment_file(ROOT, ""), "FASTRTPS_DEFAULT_PROFILES_FILE"
    profile = Path(sourced("sh", text, tmp_path, variable))
    segment = re.search(r"<segment_size>(\d+)<", profile.read_text())
    assert int(segment[1]) > 3 * 640 * 480 * 3
    assert sourced("sh", text, tmp_path, variable, **{variable: "/my/network.xml"}) == "/my/network.xml"


def test_with_a_distribution_its_setup_file_is_sourced_and_no_wheel_is_named(tmp_path):
    setup = tmp_path / "setup.sh"
    setup.write_text("export ROS_DISTRO=jazzy FROM_DISTRIBUTION=yes\n")
    text = load("write_env").environment_file(Path("/somewhere"), str(setup))
    assert sourced("sh", text, tmp_path, "FROM_DISTRIBUTION") == "yes"
    assert "AMENT_PREFIX_PATH" not in text


def test_every_source_file_carries_the_licence():
    patterns = ["*.py", "*.msg", "*.srv", "*.action"]
    files = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    names = files.stdout.split()
    assert names
    assert [n for n in names if "SPDX-License-Identifier: Apache-2.0" not in (ROOT / n).read_text()] == []


def test_no_ros_in_the_model_library_and_no_tensors_in_the_nodes():
    def importing(folder: str, module: str) -> list[str]:
        """Files below a folder that import a module, at their top or inside a function."""
        starts = (f"import {module}", f"from {module}")
        return [
            str(f)
            for f in (ROOT / folder).rglob("*.py")
            if any(line.strip().startswith(starts) for line in f.read_text().splitlines())
        ]

    assert importing("src/molmoact2_model/molmoact2_model", "torch") != []
    for package in ("molmoact2_model", "molmoact2_data"):
        assert importing(f"src/{package}/{package}", "rclpy") == []
    without = ("molmoact2_policy", "molmoact2_bringup", "hardware_drivers", "molmoact2_contract", "molmoact2_data")
    for package in without:
        assert importing(f"src/{package}", "torch") == []
