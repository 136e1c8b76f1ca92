# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 record`: records a running system into a bag."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TextIO

from rclpy.executors import ExternalShutdownException

from molmoact2_contract import ContractError, load_contract, load_system
from molmoact2_contract.stop_flag import StopFlag
from molmoact2_policy.bags.errors import BagError
from molmoact2_policy.bags.node import Recording, new_bag
from molmoact2_policy.bags.options import MB, Options
from molmoact2_policy.bags.recorder import BagRecorder
from molmoact2_policy.bags.repair import repair
from molmoact2_policy.bags.writer import Limits

OK, FAILED, BAD_INPUT = 0, 1, 2
DEFAULT_SYSTEM = "so101_sim"
TICK = 0.25           # between looks at what there is to show [s]
PLAIN_PERIOD = 5.0    # between lines outside of a terminal [s]


def record(args: Namespace) -> int:
    """Returns 0 when the bag is complete, 1 when it had to stop before its end, 2 for bad input."""
    try:
        if args.repair:
            return _repair(Path(args.repair))
        options = options_of(args)
        if args.print_ros2_command:
            print(options.ros2_command())
            return OK
        return _record(options, args.duration)
    except (BagError, ContractError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def options_of(args: Namespace) -> Options:
    """Errors: BagError, ContractError."""
    if args.system and args.contract:
        raise BagError("--system and --contract exclude each other: the system file names its contract")
    system = contract = None
    if args.contract:
        contract = load_contract(args.contract)
    elif args.system or not args.topics:
        system = load_system(args.system or DEFAULT_SYSTEM)
        contract = system.contract
    name = system.name if system else contract.path.stem if contract else "bag"
    return Options(
        Path(args.out) if args.out else new_bag(Path("out/bags"), name), contract, system, tuple(args.topics),
        args.storage, args.images, args.jpeg_quality, Limits(int(args.max_size * MB), args.max_seconds),
        int(args.queue * MB), int(args.min_free * MB),
    )


def _repair(path: Path) -> int:
    done = repair(path)
    print("\n".join(done) if done else f"{path} is whole; nothing was to be done")
    return OK


def _record(options: Options, duration: float | None) -> int:
    stop = StopFlag()
    handlers = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        recording = Recording(options)
        recorder = recording.node.recorder
        assert recorder is not None
        print(f"[record] {len(recorder.received)} topics to {options.path} ; Ctrl-C completes the bag", flush=True)
        began = time.monotonic()
        line = ProgressLine(recorder)
        try:
            while not stop.is_set() and not recording.node.failure:
                left = TICK if duration is None else min(TICK, duration - (time.monotonic() - began))
                if left <= 0:
                    break
                recording.spin(left)
                line.update()
        except ExternalShutdownException:
            pass
        line.end()
        bad_input = recording.node.bad_input
        failure = recording.close()
        _tell(recorder)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if failure:
        print(f"error: {failure}", file=sys.stderr)
    return (BAD_INPUT if bad_input else FAILED) if failure else OK


def _tell(recorder: BagRecorder) -> None:
    """What is in the bag, and what is not."""
    counts = recorder.writer.counts
    for topic, count in sorted(counts.items()):
        print(f"  {count:8} {topic}")
    silent = [topic for topic, count in recorder.received.items() if not count]
    if silent:
        print(f"nothing came on: {', '.join(sorted(silent))}")
    for topic, count in sorted(recorder.dropped.items()):
        if count:
            print(f"dropped {count} of {recorder.received[topic]} messages of {topic}: not written, or not soon enough")
    print(f"{sum(counts.values())} messages in {recorder.writer.files} file(s): {recorder.path}", flush=True)


class ProgressLine:
    """One line that says how it goes, written over itself on a terminal, every few seconds elsewhere."""

    def __init__(self, recorder: BagRecorder, stream: TextIO | None = None):
        self._recorder, self._stream = recorder, stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._began = self._before = time.monotonic()
        self._count, self._size, self._rates = 0, 0, (0.0, 0.0)
        self._shown = 0.0

    def update(self) -> None:
        now = time.monotonic()
        if now - self._before >= 1.0:
            count, size = sum(self._recorder.received.values()), self._recorder.bytes_received
            passed = now - self._before
            self._rates = (count - self._count) / passed, (size - self._size) / passed
            self._count, self._size, self._before = count, size, now
        text = self.text(now - self._began)
        if self._terminal:
            self._stream.write(f"\r\x1b[K{text[: max(20, shutil.get_terminal_size().columns - 1)]}")
        elif now - self._shown >= PLAIN_PERIOD:
            self._shown = now
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def text(self, elapsed: float) -> str:
        recorder, (messages, size) = self._recorder, self._rates
        free = shutil.disk_usage(recorder.path).free
        return (
            f"{elapsed:6.0f} s  {sum(recorder.received.values())} messages  {messages:.0f}/s  {size / MB:.1f} MB/s  "
            f"{recorder.bytes_received / MB:.0f} MB  file {recorder.writer.files}  "
            f"dropped {sum(recorder.dropped.values())}  free {free / 1e9:.1f} GB"
        )

    def end(self) -> None:
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()
