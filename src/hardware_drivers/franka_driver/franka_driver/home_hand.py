# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Homes the Franka Hand: it opens and closes its fingers to find their range. Needed after each start of the robot."""

from __future__ import annotations

import argparse
import sys

from . import words


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="home_hand",
        description="Homes the hand of a Franka robot: THE FINGERS MOVE, so nothing may be between them. Exit code: 0 "
        "when it is done, 1 when the hand refused or does not answer.",
    )
    parser.add_argument("host", help="the robot's address, as Desk is opened with")
    host = parser.parse_args().host
    import franky

    try:
        gripper = franky.Gripper(host)
        done = gripper.homing()
        width = gripper.max_width
    except Exception as error:
        print(f"error: the hand at {host} was not homed ({words.one_line(error)})", file=sys.stderr)
        return 1
    if not done:
        print(f"error: the hand at {host} says that it could not be homed", file=sys.stderr)
        return 1
    print(f"the hand at {host} opens to {width * 1000:.0f} mm")
    return 0


if __name__ == "__main__":
    sys.exit(main())
