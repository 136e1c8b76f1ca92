# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The double is true to another program than ours: I2RT's own driver, as it is, runs against it."""

import subprocess
import sys
import textwrap

from yam_rig import patient_double

# i2rt opens a socketcan interface and nothing else: this name is made to lead to the double's port.
PROGRAM = """
import sys, time, types
import can, numpy as np
from can.interfaces import BACKENDS
from can.interfaces.slcan import slcanBus

class Bus(slcanBus):
    # On a machine that is busy with other things an answer may come late: a question is waited for.

    asked = False

    def __init__(self, channel=None, bitrate=None, **_):
        super().__init__(sys.argv[1], bitrate=bitrate, sleep_after_open=0.05)

    def send(self, *arguments, **options):
        self.asked = True
        super().send(*arguments, **options)

    def recv(self, timeout=None):
        asked, self.asked = self.asked, False
        return super().recv(5.0 if asked else timeout)

sys.modules["double_bus"] = types.SimpleNamespace(Bus=Bus)
BACKENDS["socketcan"] = ("double_bus", "Bus")
from i2rt.robots.get_robot import get_yam_robot
from i2rt.robots.utils import GripperType

robot = get_yam_robot(
    "can0", gripper_type=GripperType.LINEAR_4310, zero_gravity_mode=False, gripper_limits_override=np.array([6.5, 0.0])
)
target = np.array([0.3, 0.5, 0.5, 0.1, 0.1, 0.1, 0.5])
start = robot.get_joint_pos().copy()
for step in range(1, 101):
    robot.command_joint_pos(start + (target - start) * step / 100)
    time.sleep(0.02)
give_up = time.monotonic() + 120
while np.abs(robot.get_joint_pos() - target)[:6].max() > 0.25 and time.monotonic() < give_up:
    time.sleep(0.05)
print("reached", *robot.get_joint_pos(), flush=True)
print("running", robot.motor_chain.running, flush=True)
"""


def test_the_makers_own_driver_boots_and_moves_against_the_double(tmp_path):
    arm = patient_double(tmp_path / "can", start=(0, 0, 0, 0, 0, 0, 3.0))
    try:
        program = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(arm.adapter.link)], stdout=subprocess.PIPE, text=True
        )
        said = {}
        for line in program.stdout:
            name, *values = line.split()
            said[name] = values
            if name == "running":
                break
        program.kill()
        program.wait()
    finally:
        arm.close()
    reached = [float(value) for value in said["reached"]]
    assert abs(reached[0] - 0.3) < 0.25 and abs(reached[6] - 0.5) < 0.2 and said["running"] == ["True"]
