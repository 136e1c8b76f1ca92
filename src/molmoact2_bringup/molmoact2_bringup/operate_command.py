# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 operate` and `molmoact2 episode`: an operator's words to a running system, also where no `ros2` is."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .controllers import KEEP_APART, Controller, SeveralSystems, names_once, one_system, publishers_of

if TYPE_CHECKING:
    from rclpy.node import Node

OK, REFUSED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
VERBS = ("arm", "disarm", "stop", "pause", "resume", "hand_guide", "home", "park", "clear_fault")
CALMING = ("disarm", "stop", "pause")    # asked of whoever is there, all at once, and never refused here
TRIGGER = "std_srvs/srv/Trigger"
FOUND_WITHIN = 10.0    # [s] for whoever is asked to appear
ANSWER_WITHIN = 5.0    # [s]
NO_ARM = "no arm's controller answers in ROS domain {}; start a system (molmoact2 up ...)"
SETTLED = 0.5          # [s] in which nobody else appeared
QUIET = 3.5            # [s] likewise, before an arm may move: who was missed announces itself again each 3 s


class Nobody(Exception):
    """Whom nobody answers for; the text says who, and what to do."""


def register_operate(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "operate",
        help="arm, stop, park ... the arms of a running system",
        description="Asks the controllers of a running system for something. `arm` lets an arm be moved: stand beside "
        "it, with a hand at its switch. Where arms of several systems are in this ROS domain nothing is asked unless "
        "the arms are named; only disarm, stop and pause go to all of them. Exit code: 0 when every arm did it, 1 when "
        "one refused, 2 when one is not there or it is not clear which are meant, 130 after Ctrl-C.",
    )
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("arms", nargs="*", metavar="ARM", help="names of arms (default: every arm that is there)")

    def run(args: argparse.Namespace) -> int:
        return with_node(lambda node: operate(node, args.verb, args.arms))

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
        return with_node(lambda node: begin_episode(node, args.instruction))

    parser.set_defaults(func=run)


def with_node(do: Callable[[Node], int]) -> int:
    """What `do` returns, given a node; or the exit code of what kept it from that, which is said."""
    import rclpy

    rclpy.init()
    node = rclpy.create_node("molmoact2_operate")
    try:
        return do(node)
    except (Nobody, SeveralSystems) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def operate(node: Node, verb: str, arms: list[str]) -> int:
    """Asks each arm in turn, or, to calm them, all at once. Errors: Nobody, SeveralSystems."""
    from std_srvs.srv import Trigger

    if verb in CALMING:
        return _calm(node, verb, _bare(arms))
    done = []
    for arm in _arms_meant(node, verb, _bare(arms)):
        answer = ask(node, Trigger, f"/{arm}/{verb}", Trigger.Request())
        print(f"{arm}: {'' if answer.success else 'refused: '}{answer.message}", flush=True)
        done.append(answer.success)
    return OK if all(done) else REFUSED


def _bare(arms: list[str]) -> list[str]:
    return list(dict.fromkeys(arm.strip("/") for arm in arms))


def _calm(node: Node, verb: str, arms: list[str]) -> int:
    """Each arm is asked as soon as it is found. None waits for another one's answer, nor goes unasked because another
    does not answer. Errors: Nobody."""
    from std_srvs.srv import Trigger

    more = None if arms else lambda: [f"/{arm}/{verb}" for arm in _offering(node, verb)]
    answers = ask_all(node, Trigger, [f"/{arm}/{verb}" for arm in arms], Trigger.Request(), more)
    if not answers:
        raise Nobody(NO_ARM.format(_domain()))
    code = OK
    for name, answer in answers.items():
        arm = name.strip("/").removesuffix(f"/{verb}")
        if isinstance(answer, Nobody):
            print(f"error: {answer}", file=sys.stderr)
            code = BAD_INPUT
            continue
        print(f"{arm}: {'' if answer.success else 'refused: '}{answer.message}", flush=True)
        code = code or (OK if answer.success else REFUSED)
        several = node.count_services(name)
        if several > 1:
            print(f"{several} controllers answer for {arm}: each was asked, one answer is shown; look at each arm")
    return code


def begin_episode(node: Node, instruction: str) -> int:
    """Errors: Nobody, SeveralSystems."""
    from molmoact2_msgs.srv import ResetEpisode, SetInstruction

    several = settled(lambda: node.count_services("policy/reset"), lambda count: count > 0, QUIET)
    if not several:
        raise Nobody(f"nobody offers policy/reset in ROS domain {_domain()}; is the system running?")
    if several > 1:
        raise SeveralSystems(
            f"{several} nodes offer policy/reset in ROS domain {_domain()}, so nobody can say whose episode is meant; "
            f"nothing was asked. Mend: {KEEP_APART}"
        )
    if instruction:
        request = SetInstruction.Request(instruction=instruction, new_episode=True)
        answer = ask(node, SetInstruction, "policy/set_instruction", request)
    else:
        answer = ask(node, ResetEpisode, "policy/reset", ResetEpisode.Request())
    print(f"{answer.message}; episode {answer.episode_id}" if answer.success else f"refused: {answer.message}")
    return OK if answer.success else REFUSED


def _arms_meant(node: Node, verb: str, named: list[str]) -> list[str]:
    """Arms to ask for what may move them. Errors: Nobody, SeveralSystems."""
    there = _arms_there(node, verb, named)
    found = {arm: publishers_of(node, arm) for arm in there}
    names_once([one for several in found.values() for one in several], [arm for arm in there if not found[arm]])
    if not named:
        one_system([_with_parameters(node, found[arm][0]) for arm in there])
    return there


def _with_parameters(node: Node, controller: Controller) -> Controller:
    """Errors: Nobody."""
    from rcl_interfaces.srv import GetParameters
    from rclpy.parameter import parameter_value_to_python

    request = GetParameters.Request(names=["contract", "simulation"])
    values = ask(node, GetParameters, f"{controller.node}/get_parameters", request).values
    contract, simulation = (parameter_value_to_python(value) for value in values)
    return replace(controller, contract=str(contract), simulation=bool(simulation))


def _arms_there(node: Node, verb: str, named: list[str] | tuple[str, ...] = ()) -> list[str]:
    """Arms whose controllers are there, or those that are named. Errors: Nobody."""
    def look() -> dict[str, int]:
        arms = _offering(node, verb)
        return {arm: node.count_publishers(f"/{arm}/status") for arm in (named or arms) if arm in arms}

    there = settled(look, lambda there: len(there) >= max(len(named), 1), QUIET)
    missing = [f"{arm}/{verb}" for arm in named if arm not in there]
    if missing:
        raise Nobody(f"nobody offers {', '.join(missing)} in ROS domain {_domain()}; is the system running?")
    if not there:
        raise Nobody(NO_ARM.format(_domain()))
    return list(there)


def _offering(node: Node, verb: str) -> list[str]:
    """Arms whose controllers are discovered by now."""
    names = [name.strip("/") for name, kinds in node.get_service_names_and_types() if TRIGGER in kinds]
    return sorted(name.removesuffix(f"/{verb}") for name in names if name.endswith(f"/{verb}"))


def settled(look: Callable[[], Any], enough: Callable[[Any], bool], quiet: float = 0.0) -> Any:
    """What `look` sees once it is enough and has not changed for so long [s], or at the end of patience."""
    seen, since, deadline = look(), time.monotonic(), time.monotonic() + FOUND_WITHIN
    while True:
        time.sleep(SETTLED)    # discovery has no event for "that is all"
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
        elif enough(now) and time.monotonic() - since >= quiet:
            return now
        if time.monotonic() > deadline:
            return now


def ask(node: Node, kind: type, name: str, request: Any) -> Any:
    """The answer. Errors: Nobody."""
    answer = ask_all(node, kind, [name], request)[name]
    if isinstance(answer, Nobody):
        raise answer
    return answer


def ask_all(
    node: Node, kind: type, names: Iterable[str], request: Any, more: Callable[[], Iterable[str]] | None = None
) -> dict[str, Any]:
    """Of each service its answer, or a Nobody. Each is asked as soon as it is there. more: names besides, as they are
    discovered; it is over when no further one has been for a while."""
    import rclpy

    clients: dict[str, Any] = {}
    futures: dict[str, Any] = {}
    deadlines: dict[str, float] = {}
    last = time.monotonic() + FOUND_WITHIN
    try:
        while True:
            for name in [*names, *(more() if more else ())]:
                if name not in clients:
                    clients[name] = node.create_client(kind, name)
                    deadlines[name] = time.monotonic() + FOUND_WITHIN
                    last = time.monotonic() + (2 * SETTLED if more else 0.0)
            for name in clients.keys() - futures.keys():
                if clients[name].service_is_ready():
                    futures[name], deadlines[name] = clients[name].call_async(request), time.monotonic() + ANSWER_WITHIN
            waiting = [name for name in clients if not (name in futures and futures[name].done())]
            if time.monotonic() > max([last, *(deadlines[name] for name in waiting)]):
                return {name: _answer(name, futures.get(name)) for name in clients}
            rclpy.spin_once(node, timeout_sec=0.05)
    finally:
        for client in clients.values():
            node.destroy_client(client)


def _answer(name: str, future: Any) -> Any:
    if future is None:
        return Nobody(f"nobody offers {name.strip('/')} in ROS domain {_domain()}; is the system running?")
    if not future.done():
        return Nobody(f"{name.strip('/')} does not answer; whether it was done is not known: look at the arm")
    return future.result()


def _domain() -> str:
    return os.environ.get("ROS_DOMAIN_ID", "0")
