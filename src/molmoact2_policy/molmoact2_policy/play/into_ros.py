# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 replay BAG --into-ros`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from molmoact2_contract.stop_flag import StopFlag

from ..bags.bag import Bag, BagError
from .player import Conflict, Player

OK, FAILED, BAD_INPUT = 0, 1, 2
MEET = 3.0    # [s] in which the middleware brings nodes together: before that, nobody is known to be there
LAST = 0.2    # [s] for the last messages on their way


def into_ros(path: Path, rate: float, paused: bool, without: Sequence[str]) -> int:
    """Plays a bag once, until its end or Ctrl-C. Returns 0, 1 for a conflict or damage on the way, 2 for bad input."""
    stop = StopFlag()
    handlers = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        with Bag(path) as bag:
            try:
                player = Player(bag, rate, paused, without)
            except (BagError, ValueError) as error:
                print(f"error: {error}", file=sys.stderr)
                return BAD_INPUT
            try:
                return _play(player, stop)
            finally:
                player.destroy_node()
    except BagError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    finally:
        rclpy.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _play(player: Player, stop: StopFlag) -> int:
    for topic, why in player.unplayed.items():
        print(f"not played: {topic}: {why}", file=sys.stderr)
    executor = SingleThreadedExecutor()
    executor.add_node(player)
    seconds = (player.end_ns - player.start_ns) / 1e9
    try:
        _spin(executor, MEET, stop)
        with tqdm(total=round(seconds, 2), desc="play", unit="s", disable=not sys.stderr.isatty()) as bar:
            for left in player.steps():
                if stop.is_set():
                    break
                _spin(executor, left, stop)
                bar.update(player.progress() - bar.n)
                bar.set_postfix_str("paused" if player.paused else "", refresh=False)
        _spin(executor, LAST, stop)
        for text in player.lacks:
            print(f"the bag: {text}", file=sys.stderr)
    except (BagError, Conflict) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    finally:
        executor.shutdown()
    print(f"{player.played} messages, {max(player.progress(), 0.0):.1f} of {seconds:.1f} s")
    return OK


def _spin(executor: SingleThreadedExecutor, seconds: float, stop: StopFlag) -> None:
    """Answers services for so long; at least once."""
    until = time.monotonic() + seconds
    while not stop.is_set():
        executor.spin_once(timeout_sec=max(until - time.monotonic(), 0.0))
        if time.monotonic() >= until:
            return
