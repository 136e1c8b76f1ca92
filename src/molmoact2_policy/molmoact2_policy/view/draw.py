# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of one moment: camera images, depth codes by colour, and which cells were generated anew."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from molmoact2_model.picture import code_colours

BACKGROUND, PANEL, TEXT, FAINT = (18, 21, 27), (32, 37, 46), (235, 238, 242), (146, 155, 168)
REFRESHED = (255, 140, 0)
YOUNG, OLD, OLD_AGE = np.array((205, 235, 245)), np.array((150, 25, 110)), 50    # colours of a reused code by its age
SURE, UNSURE, UNSURE_BELOW = (255, 255, 255), (255, 64, 64), 0.5
STATE_COLOURS = {
    "disarmed": "#8a8f98",
    "holding": "#4c8dd6",
    "following": "#3fa45b",
    "stopping": "#e0a526",
    "fault": "#d64545",
}
CODES_TITLE = "depth codes, colour by code index"
LEAST_WIDTH = 640
Size = tuple[int, int]
Box = tuple[int, int, int, int]    # left, upper, right, lower


def readable(size: Size) -> Size:
    """The size at which a picture of a size is drawn: small ones are enlarged, so that what is written can be read."""
    scale = max(1.0, LEAST_WIDTH / size[0])
    return round(size[0] * scale), round(size[1] * scale)


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, as matplotlib ships it, so that the pictures look the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def clipped(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(text: str, face: ImageFont.FreeTypeFont, width: float, lines: int) -> list[str]:
    """The text in at most `lines` lines; the last is cut with an ellipsis."""
    words = text.split()
    out: list[str] = []
    while words and len(out) < lines - 1:
        line = words.pop(0)
        while words and face.getlength(f"{line} {words[0]}") <= width:
            line += " " + words.pop(0)
        out.append(clipped(line, face, width))
    return [*out, clipped(" ".join(words), face, width)] if words else out


def picture(image: np.ndarray | None, size: Size, note: str = "no image yet") -> Image.Image:
    """A camera image fitted into a panel with its aspect kept; the note on an empty panel where there is none."""
    panel = Image.new("RGB", size, PANEL)
    if image is None:
        face = font(15)
        text = clipped(note, face, size[0] - 20)
        ImageDraw.Draw(panel).text((size[0] / 2, size[1] / 2), text, FAINT, face, anchor="mm")
        return panel
    fitted, place = _fit(image, size)
    panel.paste(fitted, place)
    return panel


def _fit(image: np.ndarray, size: Size) -> tuple[Image.Image, tuple[int, int]]:
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    fitted = Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    return fitted, ((size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2)


def depth_codes(trace: Any, size: Size, top: int) -> Image.Image:
    """The depth codes of a trace as a grid of colours with the code in each cell; `top` is the largest code shown."""
    rows, cols = int(trace.grid_rows), int(trace.grid_cols)
    if not rows * cols or len(trace.codes) != rows * cols:
        return picture(None, size, "no depth codes in this trace")
    codes = np.asarray(trace.codes).reshape(rows, cols)
    shades = code_colours(top + 1)[codes]
    panel = Image.new("RGB", size, PANEL)
    draw = ImageDraw.Draw(panel)
    for (left, upper, right, lower), row, col in _cells((0, 0), size, rows, cols):
        draw.rectangle((left, upper, right - 1, lower - 1), tuple(int(v) for v in shades[row, col]))
    write_in_cells(panel, size, codes, "{}", shades)
    return panel


def write_in_cells(panel: Image.Image, size: Size, values: np.ndarray, form: str, shades: np.ndarray) -> None:
    """Writes values (rows, cols) into the cells of a grid over the upper left `size` of the panel.

    shades: the cells' colours (rows, cols, 3)."""
    draw, height = ImageDraw.Draw(panel), _cell_font(size, *values.shape)
    widest = max(font(height).getlength(form.format(value)) for value in values.flat)
    face = font(max(7, int(height * min(1.0, 0.8 * size[0] / values.shape[1] / widest))))
    for (left, upper, right, lower), row, col in _cells((0, 0), size, *values.shape):
        text, place = form.format(values[row, col]), ((left + right) / 2, (upper + lower) / 2)
        draw.text(place, text, _ink(shades[row, col]), face, anchor="mm")


def refreshed_cells(image: np.ndarray | None, trace: Any, size: Size) -> Image.Image:
    """The image an inference saw under the grid: cells generated anew are tinted, the others show their age in
    inferences on a chip that darkens with it. The bar below is the probability the model gave the code, red under 0.5.
    """
    if image is None:
        return picture(None, size, "the image of this inference was not recorded")
    panel = picture(image, size)
    rows, cols = int(trace.grid_rows), int(trace.grid_cols)
    if not rows * cols or len(trace.refreshed) != rows * cols:
        return panel
    fitted, place = _fit(image, size)
    over = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(over)
    boxes = list(_cells(place, fitted.size, rows, cols))
    for box, row, col in boxes:
        if trace.refreshed[row * cols + col]:
            draw.rectangle(box, (*REFRESHED, 110), (*REFRESHED, 255))
        else:
            draw.rectangle(box, None, (255, 255, 255, 60))
    face = font(max(9, _cell_font(size, rows, cols) * 3 // 5))
    for box, row, col in boxes:
        cell = row * cols + col
        if len(trace.cell_ages) == rows * cols and not trace.refreshed[cell]:
            _age_chip(draw, box, int(trace.cell_ages[cell]), face)
        if len(trace.code_probs) == rows * cols:
            confidence_bar(draw, box, float(trace.code_probs[cell]))
    return Image.alpha_composite(panel.convert("RGBA"), over).convert("RGB")


def age_colour(age: int) -> tuple[int, int, int]:
    """The colour of a code that was generated so many inferences ago: pale, then dark, by the logarithm."""
    share = min(1.0, np.log(max(age, 1)) / np.log(OLD_AGE))
    red, green, blue = (YOUNG + share * (OLD - YOUNG)).round().astype(int).tolist()
    return red, green, blue


def _age_chip(draw: ImageDraw.ImageDraw, box: Box, age: int, face: ImageFont.FreeTypeFont) -> None:
    """In the upper right corner, so that the cell itself can be seen."""
    width, height, shade = max(face.getlength(str(age)), face.size) + 4, face.size * 1.2, age_colour(age)
    right, upper = box[2] - 2, box[1] + 2
    draw.rounded_rectangle((right - width, upper, right, upper + height), height / 3, (*shade, 215))
    draw.text((right - width / 2, upper + height / 2), str(age), (*_ink(shade), 255), face, anchor="mm")


def _ink(shade: Any) -> tuple[int, int, int]:
    """Black or white, whichever can be read on the shade."""
    return (0, 0, 0) if np.dot(shade, (0.299, 0.587, 0.114)) > 120 else (255, 255, 255)


def confidence_bar(draw: ImageDraw.ImageDraw, box: Box, probability: float) -> None:
    """A bar along the lower edge of a cell, its length the probability; plainer where the model was less sure."""
    left, upper, right, lower = box
    height = max(1, (lower - upper) // 16)
    left, right, lower = left + 3, right - 3, lower - 2
    colour, opacity = (SURE, 150) if probability >= UNSURE_BELOW else (UNSURE, 255)
    draw.rectangle((left, lower - height, right, lower), (0, 0, 0, opacity - 60))
    end = left + (right - left) * min(max(probability, 0.0), 1.0)
    draw.rectangle((left, lower - height, end, lower), (*colour, opacity))


def _cell_font(size: Size, rows: int, cols: int) -> int:
    return max(7, int(min(size[0] / cols / 2.6, size[1] / rows / 2.0)))


def _cells(place: tuple[int, int], size: Size, rows: int, cols: int) -> Iterator[tuple[Box, int, int]]:
    for row in range(rows):
        for col in range(cols):
            left, right = (place[0] + round(size[0] * c / cols) for c in (col, col + 1))
            upper, lower = (place[1] + round(size[1] * r / rows) for r in (row, row + 1))
            yield (left, upper, right, lower), row, col


def code_scale(size: Size, top: int) -> Image.Image:
    """The colour scale of the codes, from 0 to `top`, without labels."""
    return Image.fromarray(code_colours(top + 1)[None]).resize(size, Image.Resampling.BILINEAR)
