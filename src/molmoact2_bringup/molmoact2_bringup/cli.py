# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Subcommands that this package adds to `molmoact2` (entry-point group molmoact2.commands)."""

from __future__ import annotations

import argparse


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text}")
    return value


def _size(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def register_up(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "up",
        help="start a robot system from its system file",
        description="Starts the processes of a system file, brings its lifecycle nodes up, prefixes their logs, and "
        "ends all of them on Ctrl-C or when one dies. A real arm that was armed and would fall is waited for until it "
        "is parked, or until a further Ctrl-C. Exit code: 0 after Ctrl-C or --for, 1 when a process failed, 2 for bad "
        "input.",
    )
    parser.add_argument("system", help="name of a file in config/systems (e.g. so101_sim), or a path")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PROCESS.PARAMETER=VALUE", dest="settings",
        help="change one parameter of the system file; may be repeated",
    )
    parser.add_argument(
        "--for", type=_positive, default=None, metavar="SECONDS", dest="seconds", help="stop after this time"
    )
    parser.add_argument(
        "--double", action="store_true",
        help="a double in place of the device: starts the system file NAME_double, which stands beside NAME",
    )

    def run(args: argparse.Namespace) -> int:
        from .up import double_of, up

        return up(double_of(args.system) if args.double else args.system, args.settings, args.seconds)

    parser.set_defaults(func=run)


def register_demo(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="run a simulated system, record it, make a video",
        description="Runs a simulated system for a while and leaves a folder with a video of the cameras and the depth "
        "reasoning, plots of the joints, the recorded messages and a summary. Exit code: 0 when all of it is complete, "
        "1 when the system failed or the arm did not move, 2 for bad input.",
    )
    parser.add_argument("system", nargs="?", default="so101_sim", help="system to run (default: so101_sim)")
    parser.add_argument("--out", default="out/demo", metavar="DIR", help="folder to write (default: out/demo)")
    parser.add_argument(
        "--for", type=_positive, default=30.0, metavar="SECONDS", dest="seconds", help="how long to run"
    )
    parser.add_argument("--set", action="append", default=[], metavar="PROCESS.PARAMETER=VALUE", dest="settings",
                        help="change one parameter of the system file; may be repeated")
    parser.add_argument(
        "--task", action="append", default=[], metavar="INSTRUCTION", dest="instructions",
        help="instead of the demo's own tasks, with equal shares of the time; may be repeated",
    )

    def run(args: argparse.Namespace) -> int:
        from pathlib import Path

        from .demo_command import demo

        return demo(args.system, args.settings, args.seconds, Path(args.out), args.instructions)

    parser.set_defaults(func=run)


def register_bench(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure motion, reactions, setpoints, recorder, ROS path, replay, visualizer and drivers",
        description="Measures, side by side in one run: the largest steps at chunk borders and the reaction to a "
        "changed scene, for each joining rule and for what the reference's own loop does; standing and slowdown where "
        "chunks come too late, also with several requests in flight; what real-time chunking costs; the lateness of "
        "setpoints with every core busy; the recorder's share of a core and its drops; what everything but the model "
        "takes from images to chunks; the visualizer's share; replay beside the bare model; cycles, rates and "
        "processor time of the drivers, on doubles and a camera's video. Writes bench.md, bench.json, borders.png and "
        "reaction.png. Exit code: 0, 1 when something failed, 2 for bad input.",
    )
    parser.add_argument("system", nargs="?", default="so101_sim", help="system to measure (default: so101_sim)")
    parser.add_argument("--out", default="out/bench", metavar="DIR", help="folder to write (default: out/bench)")
    parser.add_argument("--chunks", type=int, default=10, help="chunk borders of each run (default: 10)")
    parser.add_argument(
        "--for", type=_positive, default=20.0, metavar="SECONDS", dest="seconds",
        help="how long to time setpoints, to record, and to time the ROS path (default: 20)",
    )
    parser.add_argument(
        "--only-ros-path", action="store_true",
        help="time the ROS path alone, with a robot of its own, not SYSTEM; writes ros_path.md and ros_path.json",
    )
    parser.add_argument(
        "--only-drivers", action="store_true",
        help="time the drivers alone, on systems of doubles, not SYSTEM; writes drivers.md and drivers.json",
    )

    def run(args: argparse.Namespace) -> int:
        from pathlib import Path

        from .bench.command import bench, bench_drivers, bench_ros_path

        if args.only_drivers:
            return bench_drivers(Path(args.out), args.seconds)
        if args.only_ros_path:
            return bench_ros_path(Path(args.out), args.seconds)
        return bench(args.system, Path(args.out), args.chunks, args.seconds)

    parser.set_defaults(func=run)


def register_faults(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "faults",
        help="put faults into simulated systems and doubles, and judge what comes of them",
        description="Runs systems with a scripted policy and spoils one thing after the other: of a simulated system "
        "chunks, sensors, clocks and processes, of a double its device. Each row must keep motion within limits, name "
        "its cause, and arm nothing. One that is late while the computer pauses is tried again, at most "
        "twice, which the table tells. Writes faults.md and log.txt. Exit code: 0 when every row passed, 1 when one "
        "failed, 2 for bad input.",
    )
    parser.add_argument(
        "systems", nargs="*", metavar="SYSTEM",
        help="systems to spoil (default: so101_sim, and the doubles of the SO-101, the YAM and the Franka)",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="FAULT",
        help="one fault of the devices of the doubles that are named, as the table calls it; may be repeated (default: "
        "every row)",
    )
    parser.add_argument("--out", default="out/faults", metavar="DIR", help="folder to write (default: out/faults)")

    def run(args: argparse.Namespace) -> int:
        from pathlib import Path

        from .faults.command import SYSTEMS, faults

        if args.only and not args.systems:
            parser.error("--only needs SYSTEM: each double has faults of its own")
        return faults(args.systems or SYSTEMS, Path(args.out), args.only)

    parser.set_defaults(func=run)


def register_task(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "task",
        help="give a task to a running system, and wait for its end",
        description="Gives a task to the policy of a running system, tells how it goes, and says why it ended. One "
        "runs at a time; this one replaces another. Nothing is armed, and an arm that waits for an operator is resumed "
        "only with --resume. Ctrl-C cancels the task, and the arms come to rest within their limits; a second Ctrl-C "
        "leaves without waiting, and the task may still run. Exit code: 0 when the test of success held, or when the "
        "time was over and no test was asked for; 1 when the time was over and the test had not held, after a fault, "
        "an operator's act, or another task; 2 for bad input, a refusal, or where no policy is found; 130 when "
        "canceled.",
    )
    parser.add_argument("instruction", help='the task in words, e.g. "pick up the red cube"')
    parser.add_argument(
        "--time-limit", type=_positive, default=60.0, metavar="SECONDS", help="end it after this time (default: 60)"
    )
    parser.add_argument(
        "--success-test", default="", metavar="NAME",
        help="end the task when this test holds; its name in the messages on success_tests",
    )
    parser.add_argument(
        "--resume", action="store_true",
        help="as the operator, resume every arm just before the task begins; arms that are not armed stay so",
    )

    def run(args: argparse.Namespace) -> int:
        from .task_command import task

        return task(args.instruction, args.time_limit, args.success_test, args.resume)

    parser.set_defaults(func=run)


def register_view(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "view",
        help="look at a running system in a browser",
        description="Shows what the visualizer and the cameras of a running system publish (the main image with the "
        "cells that were looked at again, depth codes and points, the planned path, the robot) in a browser, with the "
        "viewer Rerun. It moves nothing. It serves this machine only; from another, forward both ports: "
        "ssh -L 9090:127.0.0.1:9090 -L 9876:127.0.0.1:9876 ROBOT. Exit code: 0 after Ctrl-C, 1 when the viewer ended "
        "by itself, 2 for bad input or where it cannot begin.",
    )
    parser.add_argument("system", nargs="?", default="so101_sim", help="system that runs (default: so101_sim)")
    parser.add_argument("--port", type=int, default=9876, help="port that takes the data (default: 9876)")
    parser.add_argument("--web-port", type=int, default=9090, help="port that the browser opens (default: 9090)")
    parser.add_argument(
        "--memory", default="500MB", metavar="SIZE",
        help="kept for a browser that comes later, the oldest goes first (default: 500MB)",
    )
    parser.add_argument(
        "--rate", type=_positive, default=10.0, metavar="HZ",
        help="pictures and frames of each topic at most this often a second (default: 10)",
    )

    def run(args: argparse.Namespace) -> int:
        from .view_command import view

        return view(args.system, args.port, args.web_port, args.memory, args.rate)

    parser.set_defaults(func=run)


def register_record(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "record",
        help="record a running system into a bag",
        description="Writes what a running system publishes into a rosbag2 bag, with what is needed to replay it: "
        "message definitions, system file, contract, checkpoint, versions of the software. Ctrl-C completes the bag, "
        "a kill or a full disk leaves what was written until then. Without TOPIC, everything of the robot is recorded. "
        "Exit code: 0 when the bag is complete, 1 when it had to stop (a full disk), 2 for bad input.",
    )
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="record these only; any topic of the graph")
    parser.add_argument("--system", default="", metavar="NAME", help="system that runs (default: so101_sim)")
    parser.add_argument("--contract", default="", metavar="NAME", help="contract of the robot, instead of a system")
    parser.add_argument("--out", default="", metavar="DIR", help="the bag's folder (default: a new one in out/bags)")
    parser.add_argument("--storage", default="mcap", help="mcap or sqlite3 (default: mcap)")
    parser.add_argument(
        "--images", default="exact",
        help="exact: as they come; lossless: PNG, the same bytes when read; jpeg: small, not the same (default: exact)",
    )
    parser.add_argument("--jpeg-quality", type=int, default=90, metavar="Q", help="1 to 100 (default: 90)")
    parser.add_argument(
        "--max-size", type=_size, default=1000.0, metavar="MB", help="begin another file then; 0: never (default: 1000)"
    )
    parser.add_argument(
        "--max-seconds", type=_size, default=0.0, metavar="S", help="begin another file then; 0: never (default)"
    )
    parser.add_argument("--duration", type=_positive, default=None, metavar="S", help="stop after this time")
    parser.add_argument(
        "--queue", type=_size, default=128.0, metavar="MB", help="memory for what waits for the disk (default: 128)"
    )
    parser.add_argument(
        "--min-free", type=_size, default=256.0, metavar="MB", help="stop when less is free on the disk (default: 256)"
    )
    parser.add_argument(
        "--repair", default="", metavar="BAG", help="complete a bag whose recorder was killed; records nothing"
    )
    parser.add_argument(
        "--print-ros2-command", action="store_true",
        help="print what records the same topics with rosbag2 on a ROS distribution; records nothing",
    )

    def run(args: argparse.Namespace) -> int:
        from .record_command import record

        return record(args)

    parser.set_defaults(func=run)
