# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The video of a run: cameras, what the model saw anew, depth codes, and who says what, in robot time."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from ..bags.bag import Bag, stamp_ns
from ..view.draw import (
    BACKGROUND,
    CODES_TITLE,
    FAINT,
    PANEL,
    REFRESHED,
    STATE_COLOURS,
    TEXT,
    clipped,
    code_scale,
    depth_codes,
    font,
    picture,
    refreshed_cells,
    wrapped,
)
from .film import Film
from .run import Frame, Run, Timed, frames
from .summary import acceptances, state_spans

FPS = 15
SIZE = (1280, 720)
PANEL_SIZE = (380, 285)
LEFT, RIGHT, TOP_ROW, BOTTOM_ROW = 16, 412, 40, 362     # panels: columns, and rows below their titles
GAP = RIGHT - LEFT - PANEL_SIZE[0]
SIDE, SIDE_WIDTH = 820, 444                              # column of text
BARS = (820, 500, 1264, 574)                             # how much each inference generated anew
BAR = (16, 674, 1264, 692)                               # strip of the controller's states


def write_video(bag: Bag, run: Run, path: Path, progress: bool = False) -> int:
    """Writes an H.264 video at 15 frames a second of robot time; returns the number of frames.

    progress: show a bar on stderr.

    Everything is shown as it was received: at each time the newest image of each camera and the newest trace.
    """
    count = max(1, round(run.duration * FPS))
    screen = _Screen(run)
    incoming = _Lookahead(frames(bag, run.contract))
    with Film(path, FPS, SIZE) as film:
        for index in tqdm(range(count), desc="video", unit="frame", leave=False, disable=not progress):
            now = run.start_ns + round(index * 1e9 / FPS)
            for frame in incoming.until(now):
                screen.see(frame)
            film.add(screen.draw(now))
    return count


class _Lookahead:
    """Hands out frames up to a time, and keeps the first one after it."""

    def __init__(self, source: Iterator[Frame]):
        self._source, self._held = source, next(source, None)

    def until(self, time_ns: int) -> Iterator[Frame]:
        while self._held is not None and self._held.receive_ns <= time_ns:
            yield self._held
            self._held = next(self._source, None)


class _Screen:
    """Draws one frame of the video from what has been received."""

    def __init__(self, run: Run):
        self._run = run
        self._cameras = [camera.name for camera in run.cameras]
        self._images: dict[str, np.ndarray] = {}
        self._wanted = {stamp_ns(t.message.header.stamp) for t in run.traces}
        self._seen: dict[int, np.ndarray] = {}       # main images that a trace speaks of, by stamp
        self._next_trace, self._trace = 0, None
        self._top = largest_code(run)
        self._waits = {int(c.message.chunk_id): c.receive_ns - stamp_ns(c.message.header.stamp) for c in run.chunks}
        self._status_times = {arm: [s.receive_ns for s in statuses] for arm, statuses in run.controllers.items()}
        self._base = self._draw_base()

    def see(self, frame: Frame) -> None:
        """Takes a received image."""
        self._images[frame.camera] = frame.image
        if frame.camera == self._cameras[0] and frame.stamp_ns in self._wanted:
            self._seen[frame.stamp_ns] = frame.image

    def draw(self, now: int) -> Image.Image:
        """The whole frame at a time [ns]."""
        self._advance(now)
        screen = self._base.copy()
        draw = ImageDraw.Draw(screen)
        pitch = (RIGHT + PANEL_SIZE[0] + GAP - LEFT) // len(self._cameras)
        for index, camera in enumerate(self._cameras):
            place, width = (LEFT + index * pitch, TOP_ROW), pitch - GAP
            screen.paste(picture(self._images.get(camera), (width, PANEL_SIZE[1])), place)
            draw.text((place[0], place[1] - 7), f"{camera} camera", TEXT, font(15), anchor="ls")
        self._draw_side(screen, draw, now)
        self._draw_refreshed(draw, now)
        self._draw_cursor(draw, now)
        return screen

    def _advance(self, now: int) -> None:
        """Makes the newest trace received by now the current one, and draws its panels into the base."""
        newest = None
        while self._next_trace < len(self._run.traces) and self._run.traces[self._next_trace].receive_ns <= now:
            newest = self._run.traces[self._next_trace].message
            self._next_trace += 1
        if newest is None:
            return
        self._trace = newest
        stamp = stamp_ns(newest.header.stamp)
        self._base.paste(refreshed_cells(self._seen.get(stamp), newest, PANEL_SIZE), (LEFT, BOTTOM_ROW))
        self._base.paste(depth_codes(newest, PANEL_SIZE, self._top), (RIGHT, BOTTOM_ROW))
        self._seen = {s: image for s, image in self._seen.items() if s > stamp}

    def _draw_base(self) -> Image.Image:
        base = Image.new("RGB", SIZE, BACKGROUND)
        draw = ImageDraw.Draw(base)
        for x, title in ((LEFT, "what the last inference saw: cells generated anew"), (RIGHT, CODES_TITLE)):
            draw.text((x, BOTTOM_ROW - 7), title, TEXT, font(15), anchor="ls")
            base.paste(picture(None, PANEL_SIZE, "no trace yet"), (x, BOTTOM_ROW))
        self._draw_legend(base, draw)
        self._draw_states(draw)
        return base

    def _draw_legend(self, base: Image.Image, draw: ImageDraw.ImageDraw) -> None:
        y = BOTTOM_ROW + PANEL_SIZE[1] - 46
        draw.rectangle((SIDE, y, SIDE + 26, y + 16), tuple(int(0.6 * c) for c in REFRESHED), REFRESHED)
        said = "generated anew;  number: age in inferences;  bar: confidence"
        draw.text((SIDE + 36, y + 8), said, FAINT, font(13), anchor="lm")
        base.paste(code_scale((220, 14), self._top), (SIDE + 36, y + 30))
        draw.text((SIDE + 26, y + 37), "0", FAINT, font(14), anchor="rm")
        draw.text((SIDE + 266, y + 37), f"{self._top}  code index", FAINT, font(14), anchor="lm")

    def _x(self, time_ns: float) -> float:
        return BAR[0] + (BAR[2] - BAR[0]) * self._run.seconds(time_ns) / max(self._run.duration, 1e-9)

    def _draw_states(self, draw: ImageDraw.ImageDraw) -> None:
        """The strip at the bottom: states of each controller over the whole run, acceptance of chunks as ticks."""
        draw.rectangle(BAR, PANEL)
        arms = list(self._run.controllers.values())
        for index, statuses in enumerate(arms):
            upper, lower = (BAR[1] + (BAR[3] - BAR[1]) * i // len(arms) for i in (index, index + 1))
            for state, start, end in state_spans(self._run, statuses):
                draw.rectangle((self._x(start), upper, self._x(end), lower), STATE_COLOURS.get(state, FAINT))
            for status in acceptances(statuses):
                x = self._x(stamp_ns(status.message.header.stamp))
                draw.line((x, lower - 5, x, lower), (255, 255, 255), 1)
        x = BAR[0]
        for state, colour in STATE_COLOURS.items():
            draw.rectangle((x, BAR[3] + 9, x + 11, BAR[3] + 20), colour)
            draw.text((x + 17, BAR[3] + 15), state, FAINT, font(13), anchor="lm")
            x += 36 + font(13).getlength(state)
        draw.text((x + 6, BAR[3] + 15), "white ticks: a chunk was accepted", FAINT, font(13), anchor="lm")
        draw.text((BAR[2], BAR[3] + 15), f"{self._run.duration:.1f} s", FAINT, font(13), anchor="rm")

    def _draw_refreshed(self, draw: ImageDraw.ImageDraw, now: int) -> None:
        """One bar for each inference: how many of its cells were generated anew. Those to come are faint."""
        left, upper, right, lower = BARS
        with_codes = [t for t in self._run.traces if len(t.message.refreshed)]
        if not with_codes:
            return
        draw.text((left, upper - 10), "cells generated anew, by inference", FAINT, font(14), anchor="ls")
        draw.text((right, upper - 10), "full height: all", FAINT, font(14), anchor="rs")
        pitch = (right - left) / len(with_codes)
        for index, timed in enumerate(with_codes):
            height = (lower - upper) * float(np.mean(timed.message.refreshed))
            x = left + index * pitch
            colour = REFRESHED if timed.receive_ns <= now else PANEL
            if timed.message is self._trace:
                draw.rectangle((x, upper, x + max(1, pitch - 2), lower), (58, 64, 76))
            draw.rectangle((x, lower - height, x + max(1, pitch - 2), lower), colour)
        draw.line((left, lower, right, lower), FAINT, 1)

    def _draw_cursor(self, draw: ImageDraw.ImageDraw, now: int) -> None:
        x = self._x(now)
        draw.line((x, BAR[1] - 4, x, BAR[3] + 3), (255, 255, 255), 3)

    def _draw_side(self, screen: Image.Image, draw: ImageDraw.ImageDraw, now: int) -> None:
        run, trace = self._run, self._trace
        draw.text((SIDE, 33), f"MolmoAct2 · {run.contract.embodiment}", FAINT, font(16), anchor="ls")
        draw.text((SIDE, 78), f"{run.seconds(now):.1f} s", TEXT, font(38, bold=True), anchor="ls")
        draw.text((SIDE + SIDE_WIDTH, 78), "robot time", FAINT, font(14), anchor="rs")
        y = 118
        for line in wrapped(self._instruction(now), font(19), SIDE_WIDTH, 2):
            draw.text((SIDE, y), line, TEXT, font(19), anchor="ls")
            y += 26
        y = 196
        for label, value, colour in self._lines(trace, now):
            draw.text((SIDE, y), label, FAINT, font(15), anchor="ls")
            draw.text((SIDE + 128, y), clipped(value, font(17), SIDE_WIDTH - 128), colour, font(17), anchor="ls")
            y += 31

    def _holding(self, now: int) -> list[str]:
        """The success tests that hold."""
        before = {name: bisect.bisect_right(stamps, (now, True)) for name, stamps in self._run.tests.items()}
        return [name for name, count in before.items() if count and self._run.tests[name][count - 1][1]]

    def _instruction(self, now: int) -> str:
        said = self._trace or newest(self._run.policy, [s.receive_ns for s in self._run.policy], now)
        return f"“{said.instruction}”" if said is not None and said.instruction else "no instruction yet"

    def _lines(self, trace: Any, now: int) -> Iterator[tuple[str, str, Any]]:
        """(label, value, colour) of each line of the side column."""
        if trace is None:
            yield "inference", "none finished yet", FAINT
        else:
            mode = self._run.names.depth_mode[trace.depth_mode]
            yield "depth", f"{mode} ({trace.cause})" if trace.cause else mode, TEXT
            yield "refreshed", f"{int(np.sum(trace.refreshed))} / {len(trace.refreshed)} cells", REFRESHED
            yield "decoder steps", str(trace.decoder_steps), TEXT
            wait = self._waits.get(int(trace.chunk_id))
            if trace.withheld:
                yield "chunk", f"held back: {trace.withheld}", STATE_COLOURS["fault"]
            else:
                yield "chunk", f"number {trace.chunk_id}", TEXT
            yield "latency", "not recorded" if wait is None else f"{wait / 1e9:.3f} s  capture to chunk", TEXT
        for arm, statuses in self._run.controllers.items():
            status = newest(statuses, self._status_times[arm], now)
            alone = len(self._run.controllers) == 1
            label = "controller" if alone else arm
            if status is None:
                yield label, "silent", FAINT
                continue
            state = self._run.names.state[status.state]
            text = f"{state.upper()}  {status.fault_text or status.reason}"
            for line in wrapped(text, font(17), SIDE_WIDTH - 128, 3 if alone else 1):
                yield label, line, STATE_COLOURS.get(state, TEXT)
                label = ""
            yield "path rate", f"{status.path_rate:.2f}   {status.waypoints_left} waypoints left", TEXT
        for name in self._holding(now)[:1]:
            yield "in truth", name, STATE_COLOURS["following"]


def newest(messages: list[Timed], times: list[int], now: int) -> Any | None:
    """The newest message received by a time [ns]; `times` are the receive times."""
    index = bisect.bisect_right(times, now)
    return messages[index - 1].message if index else None


def largest_code(run: Run) -> int:
    """The largest depth code of a run: the upper end of its colour scale. At least 1."""
    return max((int(np.max(t.message.codes)) for t in run.traces if len(t.message.codes)), default=1) or 1
