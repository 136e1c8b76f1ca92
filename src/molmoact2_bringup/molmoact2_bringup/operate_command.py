# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 operate` and `molmoact2 episode`: an operator's words to a running system, also where no `ros2` is."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.node import Node

OK, REFUSED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
VERBS = ("arm", "disarm", "stop", "pause", "resume", "hand_guide", "home", "park", "clear_fault")
TRIGGER = "std_srvs/srv/Trigger"
FOUND_WITHIN = 10.0    # [s] for whoever is asked to appear
ANSWER_WITHIN = 5.0    # [s]


class Nobody(Exception):
    """Whom nobody answers for; the text says who, and what to do."""


def register_operate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "operate",
        help="arm, stop, park ... the arms of a running system",
        description="Asks the controllers of a running system for something. `arm` lets an arm be moved: stand beside "
        "it, with a hand at its switch. Exit code: 0 when every arm did it, 1 when one refused, 2 when one is not "
        "there, 130 after Ctrl-C.",
    )
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("arms", nargs="*", metavar="ARM", help="names of arms (default: every arm that is there)")

    def run(args: argparse.Namespace) -> int:
        return _with_node(lambda node: operate(node, args.verb, args.arms))

    parser.set_defaults(func=run)


def register_episode(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "episode",
        help="begin an episode of a policy or a leader, without a task's time limit",
        description="Begins an episode, of which data sets make one of theirs. Exit code: 0 when it began, 1 when it "
        "was refused, 2 when nobody is there, 130 after Ctrl-C.",
    )
    parser.add_argument("instruction", nargs="?", default="", help="what is done or shown (default: as before)")

    def run(args: argparse.Namespace) -> int:
        return _with_node(lambda node: begin_episode(node, args.instruction))

    parser.set_defaults(func=run)


def _with_node(do: Callable[[Node], int]) -> int:
    import rclpy

    rclpy.init()
    node = rclpy.create_node("molmoact2_operate")
    try:
        return do(node)
    except Nobody as nobody:
        print(f"error: {nobody}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def operate(node: Node, verb: str, arms: list[str]) -> int:
    """Asks each arm in turn and says what came of it. Errors: Nobody."""
    from std_srvs.srv import Trigger

    done = []
    for arm in arms or _arms_there(node, verb):
        answer = _ask(node, Trigger, f"{arm}/{verb}", Trigger.Request())
        print(f"{arm}: {'' if answer.success else 'refused: '}{answer.message}", flush=True)
        done.append(answer.success)
    return OK if all(done) else REFUSED


def begin_episode(node: Node, instruction: str) -> int:
    """Errors: Nobody."""
    from molmoact2_msgs.srv import ResetEpisode, SetInstruction

    if instruction:
        request = SetInstruction.Request(instruction=instruction, new_episode=True)
        answer = _ask(node, SetInstruction, "policy/set_instruction", request)
    else:
        answer = _ask(node, ResetEpisode, "policy/reset", ResetEpisode.Request())
    print(f"{answer.message}; episode {answer.episode_id}" if answer.success else f"refused: {answer.message}")
    return OK if answer.success else REFUSED


def _arms_there(node: Node, verb: str) -> list[str]:
    """Arms whose controllers are there, once no more of them appear."""
    found: list[str] = []
    deadline = time.monotonic() + FOUND_WITHIN
    while time.monotonic() < deadline:
        time.sleep(0.5)    # discovery has no event for "that is all"
        names = [name.strip("/") for name, kinds in node.get_service_names_and_types() if TRIGGER in kinds]
        there = sorted(name.removesuffix(f"/{verb}") for name in names if name.endswith(f"/{verb}"))
        if there and there == found:
            return there
        found = there
    raise Nobody(f"no arm's controller answers in ROS domain {_domain()}; start a system (molmoact2 up ...)")


def _ask(node: Node, kind: type, name: str, request: Any) -> Any:
    import rclpy

    client = node.create_client(kind, name)
    try:
        if not client.wait_for_service(FOUND_WITHIN):
            raise Nobody(f"nobody offers {name} in ROS domain {_domain()}; is the system running?")
        future = client.call_async(request)
        rclpy.spin_until_future_complete(node, future, timeout_sec=ANSWER_WITHIN)
        if not future.done():
            raise Nobody(f"{name} does not answer; whether it was done is not known: look at the arm")
        return future.result()
    finally:
        node.destroy_client(client)


def _domain() -> str:
    return os.environ.get("ROS_DOMAIN_ID", "0")
