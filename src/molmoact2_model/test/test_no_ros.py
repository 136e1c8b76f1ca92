# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The library needs no ROS, and importing it is light."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "molmoact2_model"
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python", "sensor_msgs", "cv_bridge", "molmoact2_msgs"}

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
"""


def run(code):
    program = BLOCKED.format(blocked=ROS) + code
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=PACKAGE.parent
    )


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


def test_the_package_imports_without_ros_and_without_torch():
    done = run("import molmoact2_model; assert 'torch' not in sys.modules, 'torch was loaded'")
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_without_ros():
    code = "import molmoact2_model as m; print([getattr(m, name) for name in dir(m)])"
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "MolmoAct2Policy" in done.stdout


def test_no_source_file_imports_ros():
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    for file in files:
        assert not ROS & set(imports(file)), file
