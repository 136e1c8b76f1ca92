# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot's follower, in an environment of its own, on the double with MuJoCo behind it.

MOLMOACT2_LEROBOT_PYTHON names the Python that has lerobot 0.4.4, which scripts/side_environments makes for the long
tests (make test-long); without it this is skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = os.environ.get("MOLMOACT2_LEROBOT_PYTHON")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON, reason="MOLMOACT2_LEROBOT_PYTHON names no Python with lerobot"),
]


def test_lerobots_follower_connects_with_our_calibration_file_and_moves_the_arm(tmp_path):
    link, file = tmp_path / "bus", tmp_path / "double.json"
    double = subprocess.Popen(
        [sys.executable, "-m", "molmoact2_contract.cli", "so101", "double", "--link", link, "--calibration-out", file],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        assert double.stdout.readline().strip() == str(link)
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "LD_LIBRARY_PATH")}
        run = subprocess.run(
            [PYTHON, Path(__file__).with_name("lerobot_follower.py"), link, file],
            capture_output=True, text=True, timeout=300, env=environment,
        )
        assert run.returncode == 0, run.stderr
        result = json.loads(run.stdout.splitlines()[-1])
        assert result["calibrated"]
        # The degrees of LeRobot are ours from radians; it reckons a turn as 4095 counts.
        assert result["first"]["shoulder_pan.pos"] == pytest.approx(0.0, abs=3.0)
        for joint, goal in result["goal"].items():
            assert result["last"][joint] == pytest.approx(goal, abs=3.0), joint
    finally:
        double.communicate("")
    assert double.returncode == 0
