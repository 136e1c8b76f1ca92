# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own follower drives the double. Run by test_lerobot.py in an environment that has lerobot.

Arguments: port, calibration file. Prints one JSON object.
"""

import builtins
import json
import shutil
import sys
import tempfile
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock

# Importing a robot imports LeRobot's image processing, which is not used here: its torchvision need not be there, and
# one that is built for another torch would end the import.
for part in ("", ".transforms", ".transforms.functional", ".transforms.v2", ".transforms.v2.functional"):
    stand_in = MagicMock(__spec__=ModuleSpec(f"torchvision{part}", None), __path__=[], __version__="0")
    sys.modules[f"torchvision{part}"] = stand_in

from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig  # noqa: E402

PATIENCE = 60.0    # [s]
GOAL = {
    "shoulder_pan.pos": 30.0, "shoulder_lift.pos": -40.0, "elbow_flex.pos": 50.0, "wrist_flex.pos": 30.0,
    "wrist_roll.pos": -20.0, "gripper.pos": 60.0,
}


def persistently(robot, call, good=lambda result: True):
    """LeRobot asks once; on a busy machine an answer may come later than it waits, and would then answer the next
    question: so the input is emptied before each."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if robot.is_connected:
            robot.bus.port_handler.ser.reset_input_buffer()
        try:
            result = call()
            if good(result) or time.monotonic() > deadline:
                return result
        except (ConnectionError, RuntimeError):
            if time.monotonic() > deadline:
                raise


def main() -> None:
    port, file = sys.argv[1:]
    builtins.input = lambda prompt="": ""    # "press Enter to use the calibration file"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(file, Path(folder) / "double.json")
        robot = SO101Follower(
            SO101FollowerConfig(port=port, id="double", calibration_dir=Path(folder), use_degrees=True)
        )

        def connect():
            if robot.is_connected:
                robot.bus.disconnect(disable_torque=False)
            robot.connect()

        persistently(robot, connect)
        first = persistently(robot, robot.get_observation)
        deadline = time.monotonic() + PATIENCE
        now = first
        while time.monotonic() < deadline and max(abs(now[joint] - GOAL[joint]) for joint in GOAL) > 3.0:
            step = {joint: now[joint] + max(-5.0, min(5.0, GOAL[joint] - now[joint])) for joint in GOAL}
            persistently(robot, lambda step=step: robot.send_action(step))
            persistently(robot, lambda: robot.send_action(GOAL))
            now = persistently(robot, robot.get_observation)
        calibrated = persistently(robot, lambda: robot.is_calibrated, bool)
        print(json.dumps({"calibrated": calibrated, "first": first, "last": now, "goal": GOAL}))
        persistently(robot, robot.disconnect)


main()
