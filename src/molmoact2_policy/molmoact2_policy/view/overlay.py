# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What an inference looked at, as one picture: the main image with its cells, and in words how depth was reasoned."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from molmoact2_msgs.msg import ReasoningTrace

from ..messages import DEPTH_MODES
from .draw import (
    FAINT,
    PANEL,
    REFRESHED,
    STATE_COLOURS,
    TEXT,
    age_colour,
    clipped,
    confidence_bar,
    font,
    readable,
    refreshed_cells,
)

MODES = {number: name for name, number in DEPTH_MODES.items()}
HEAD, FOOT = 34, 30


def how_reasoned(trace: ReasoningTrace) -> str:
    """Mode and cause in words, e.g. "forced: main_image_changed"."""
    mode = MODES.get(trace.depth_mode, f"mode {trace.depth_mode}")
    return f"{mode}: {trace.cause}" if trace.cause else mode


def overlay(image: np.ndarray, trace: ReasoningTrace) -> np.ndarray:
    """image: uint8 (H, W, 3), of the trace's own capture. Returns uint8 (H', W', 3): a line above says mode and cause
    and how much was generated anew, one below explains the marks."""
    width, height = readable((image.shape[1], image.shape[0]))
    canvas = Image.new("RGB", (width, HEAD + height + FOOT), PANEL)
    canvas.paste(refreshed_cells(image, trace, (width, height)), (0, HEAD))
    draw = ImageDraw.Draw(canvas)
    cells = len(trace.refreshed)
    count = f"{int(np.sum(trace.refreshed))} of {cells} cells anew" if cells else "no codes"
    face = font(18)
    draw.text((width - 10, HEAD / 2), count, REFRESHED, face, anchor="rm")
    room = width - 30 - face.getlength(count)
    said = f"depth {how_reasoned(trace)}"
    draw.text((10, HEAD / 2), clipped(said, face, room), TEXT, face, anchor="lm")
    if trace.withheld:
        x = 22 + face.getlength(said)
        draw.text((x, HEAD / 2), clipped(trace.withheld, face, room - x), STATE_COLOURS["fault"], face, anchor="lm")
    _legend(draw, HEAD + height)
    return np.asarray(canvas)


def _legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    face, middle, x = font(13), top + FOOT / 2, 10.0
    draw.rectangle((x, middle - 7, x + 18, middle + 7), tuple(c // 2 for c in REFRESHED), REFRESHED)
    x = _label(draw, x + 24, middle, "generated anew") + 16
    for age in (1, 7, 50):
        draw.rounded_rectangle((x, middle - 8, x + 22, middle + 8), 8, age_colour(age))
        draw.text((x + 11, middle), str(age), (0, 0, 0) if age < 10 else (255, 255, 255), face, anchor="mm")
        x += 26
    x = _label(draw, x + 2, middle, "age in inferences") + 16
    for probability in (0.9, 0.4):
        confidence_bar(draw, (round(x) - 3, round(middle) - 30, round(x) + 33, round(middle) + 5), probability)
        x += 38
    _label(draw, x + 2, middle, "confidence, red under 0.5")


def _label(draw: ImageDraw.ImageDraw, x: float, y: float, text: str) -> float:
    """Writes a label; returns where it ends."""
    draw.text((x, y), text, FAINT, font(13), anchor="lm")
    return x + font(13).getlength(text)
