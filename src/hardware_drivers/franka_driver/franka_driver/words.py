# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the robot and libfranka say, in words that name the thing and the mend."""

from __future__ import annotations

import re
import socket

# Names of libfranka's errors, and what a person does about them.
REFLEXES = {
    "joint_reflex": "something pushed a joint harder than the contract's torque_thresholds allow; free the arm",
    "cartesian_reflex": "something pushed the hand harder than the contract's force_thresholds allow; free the arm",
    "communication_constraints_violation": "too many commands in a row were late or lost; connect computer and robot "
    "by a cable of their own, use a real-time kernel, and switch power saving of the processor off",
    "joint_position_limits_violation": "a joint is at its limit; guide the arm away from it (Desk, programming mode)",
    "self_collision_avoidance_violation": "the arm came too near to itself; guide it away (Desk, programming mode)",
    "joint_velocity_violation": "a joint was too fast; lower the contract's velocity limits",
    "power_limit_violation": "the joints needed too much power; lower the contract's acceleration limits",
    "controller_torque_discontinuity": "the torques leapt; lower the contract's stiffness",
    "tau_j_range_violation": "a joint needed more torque than it has; check the load that is set in Desk",
}
NO_KERNEL = (
    "this computer has no real-time kernel, or this user may not use it; install one (PREEMPT_RT) and allow rtprio 99, "
    "or set the option realtime=ignore where a double or no motion is meant"
)
OTHER_REFLEX = "see the error's name in Franka's documentation"
RECOVER = "then clear_fault, which has the robot recover, and arm"

# What the robot says of itself when it cannot be moved.
MODES = {
    "UserStopped": "the user stop is pressed (its lights are white); see that nobody is at the arm, release it",
    "Other": "the robot is not ready to move: its joints are locked, or it is starting; open the brakes in Desk and "
    "wait for the blue light",
    "Guiding": "the arm is being guided by hand; let go of the buttons at its wrist",
    "AutomaticErrorRecovery": "the robot is recovering from an error; wait until it has done so",
}
SHOWN = {"UserStopped": "User stopped", "Other": "Other", "Guiding": "Guiding"}    # as libfranka writes them
NAMES = re.compile(r'"(\w+)"')
LOST = re.compile(r"Net Exception|UDP (receive|send)|TCP (receive|send|connection)|closed connection")
RESEARCH_3, PANDA = 10, 5    # versions of the protocol


def reflex(names: str) -> str:
    """Why the robot stopped itself. names: errors as libfranka prints them, ["a", "b"]."""
    found = NAMES.findall(names)
    if not found:
        return "the robot is in reflex and names no error; look into Desk"
    mends = "; ".join(REFLEXES.get(name, REFLEXES.get(name.lower(), OTHER_REFLEX)) for name in found)
    return f"the robot stopped itself: {', '.join(found)} ({mends}); {RECOVER}"


def tells_reflex(text: str) -> bool:
    """Whether a text of ours says that the robot stopped itself."""
    return text.startswith(("the robot stopped itself", "the robot is in reflex"))


def mode(name: str, errors: str = "") -> str:
    """Why a robot in a mode cannot be moved; empty where it can. name: of libfranka's RobotMode; errors: what it
    names."""
    if name in ("Idle", "Move"):
        return ""
    return reflex(errors) if name == "Reflex" else MODES.get(name, f"the robot is in mode {name}")


def connection(error: BaseException, host: str) -> str:
    """Why no connection came about."""
    text, name = one_line(error), type(error).__name__
    if name == "CommandException":    # franky sets thresholds of its own as it connects
        return thresholds(error, host)
    if name.startswith("IncompatibleVersion"):
        return _version(text, host)
    if name == "RealtimeException":
        return NO_KERNEL
    if "Host not found" in text or isinstance(error, socket.gaierror):
        return f"nobody knows the host {host!r}; write the robot's address as Desk is opened with"
    if "refused" in text:
        return (
            f"the robot at {host} refuses connections: FCI is off, or this is no robot's address; activate FCI in Desk "
            "(the menu at the top right), with the joints unlocked"
        )
    return f"the robot at {host} cannot be reached ({text}); check its power, its cable and the address"


def _version(text: str, host: str) -> str:
    """What fits a robot that speaks another version of the protocol than the driver."""
    found = re.search(r"server version: (\d+), library version: (\d+)|version (\d+), .* version (\d+)", text)
    theirs, ours = [int(number) for number in found.groups() if number] if found else (0, 0)
    speaks = f"speaks version {theirs} of the protocol, this driver {ours}" if found else text
    if found and theirs <= PANDA:
        other = "it is an older Panda: set the option robot=panda and use its contract, panda_droid"
        newer = "update the Panda to system 4.2 (Desk, Settings)"
        mends = [other] * (ours != PANDA) + [newer] * (theirs < PANDA)
    else:
        other = "it is a Research 3: leave the option robot=panda out and use its contract, franka_droid"
        newer = "update a Franka Research 3 to system 5.9 or newer (Desk, Settings)"
        mends = [other] * (ours == PANDA) + [newer] * (theirs < RESEARCH_3)
    mend = "; ".join(mends or ["it is newer than this driver, so update the suite"])
    return f"the robot at {host} has a system that does not fit: it {speaks}; {mend}"


def thresholds(error: BaseException, host: str) -> str:
    """Why the robot has not taken the thresholds of its collision reflex."""
    text = one_line(error)
    if tells_lost(error) or " command " not in text:
        return lost(error, host)
    for name, shown in SHOWN.items():
        if f'("{shown}")' in text:
            return MODES[name]
    return (
        f"the robot at {host} does not take thresholds of its collision reflex ({text}); see what Desk says, have it "
        "recover there from a reflex, look at torque_thresholds and force_thresholds in the contract, and try again"
    )


def lost(error: BaseException, host: str) -> str:
    """Why the connection that was there is gone."""
    return (
        f"the connection to the robot at {host} is lost ({one_line(error)}); check its power, its cable and that FCI "
        "is on, then clear_fault, which connects anew, and arm"
    )


def tells_lost(error: BaseException) -> bool:
    """Whether a library's error says that the connection is gone."""
    return "NetworkException" in type(error).__name__ or LOST.search(str(error)) is not None


def motion(error: BaseException, host: str) -> str:
    """Why a motion ended that was not to end."""
    text = one_line(error)
    if tells_lost(error):
        return lost(error, host)
    if NAMES.search(text) and "reflex" in text:
        return reflex(text[text.index("[") :] if "[" in text else text)
    if "User Stop" in text:
        return f"{MODES['UserStopped']}; {RECOVER}"
    if "safety function" in text:
        return f"a safety function stopped the robot (the user stop, or a rule that is set in Desk); end it; {RECOVER}"
    if '"Other"' in text or "brakes" in text:
        return f"{MODES['Other']}; {RECOVER}"
    if "realtime scheduling" in text or "thread priority" in text:
        return "libfranka may not use real-time priority; allow this user rtprio 99 in /etc/security/limits.d"
    return f"the robot ended the motion ({text}); {RECOVER}"


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
