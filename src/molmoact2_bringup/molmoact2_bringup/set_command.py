# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 set`: parameters of a running system, also where no `ros2` is: faults of doubles, settings of a policy."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

import yaml

from molmoact2_contract.reading import parse

from .operate_command import BAD_INPUT, OK, REFUSED, Nobody, ask, settled, with_node

if TYPE_CHECKING:
    from rclpy.node import Node

SERVICE = "set_parameters"


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "set",
        help="change a parameter of a running system, e.g. the fault of a double",
        description="Changes parameters of a running system, as --set of `molmoact2 up` does at the start. Exit code: "
        "0 when each was taken, 1 when one was refused, 2 when the process is not there or is there twice, 130 after "
        "Ctrl-C.",
        epilog='for instance: molmoact2 set double.fault="silent 3"',
    )
    parser.add_argument("settings", nargs="+", metavar="PROCESS.PARAMETER=VALUE")

    def run(args: argparse.Namespace) -> int:
        try:
            wanted = [parsed(setting) for setting in args.settings]
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return BAD_INPUT
        return with_node(lambda node: max(set_parameter(node, *one) for one in wanted))

    parser.set_defaults(func=run)


def parsed(setting: str) -> tuple[str, str, Any]:
    """Process, parameter and value, which is written in YAML. Errors: ValueError."""
    target, equals, text = setting.partition("=")
    process, dot, parameter = target.strip("/").partition(".")
    if not (process and dot and parameter and equals):
        raise ValueError(f"{setting!r}: expected PROCESS.PARAMETER=VALUE, for instance double.fault=ok")
    try:
        value = parse(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{setting!r}: the value is not YAML ({error})") from error
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str | bool | int | float) for one in values):
        raise ValueError(f"{setting!r}: the value must be a text, a number, true, false or a list of these")
    return process, parameter, value


def set_parameter(node: Node, process: str, parameter: str, value: Any) -> int:
    """Says what came of it. Errors: Nobody."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    service, domain = f"/{process}/{SERVICE}", os.environ.get("ROS_DOMAIN_ID", "0")
    servers = settled(lambda: node.count_services(service), lambda count: count > 0)
    if servers != 1:
        there = sorted(name.strip("/") for name, _ in node.get_node_names_and_namespaces() if name != node.get_name())
        what = f"{servers} processes are called {process}" if servers else f"no process is called {process}"
        raise Nobody(f"{what} in ROS domain {domain}, and nothing was set; there are: {', '.join(there) or 'none'}")
    request = SetParameters.Request(parameters=[Parameter(parameter, value=value).to_parameter_msg()])
    (result,) = ask(node, SetParameters, service, request).results
    if not result.successful:
        print(f"{process}.{parameter}: refused: {result.reason or 'no reason was given'}")
        return REFUSED
    print(f"{process}.{parameter}: {value}")
    return OK


