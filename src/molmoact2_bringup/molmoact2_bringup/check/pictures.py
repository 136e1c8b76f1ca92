# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures to look at: what each camera showed, and all of them in the model's order. No ROS here."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .heard import Images

SHEET = "cameras.png"
BACKGROUND, EMPTY, TEXT = (18, 21, 27), (32, 37, 46), (235, 238, 242)
PANEL, TITLE, GAP = (480, 360), 34, 10    # [px]


def save(cameras: dict[str, Images], folder: Path) -> dict[str, str]:
    """Writes the last image of each camera, and the contact sheet. cameras: in the model's order. Returns names of the
    files by camera; of one without an image, what stands in its place on the sheet."""
    names = {}
    for number, (camera, images) in enumerate(cameras.items(), 1):
        names[camera] = f"image_{number}_{camera}.png"
        if images.image is None:
            names[camera] = "no image"
            continue
        Image.fromarray(images.image).save(folder / names[camera])
    width = GAP + len(cameras) * (PANEL[0] + GAP)
    sheet = Image.new("RGB", (width, TITLE + PANEL[1] + GAP), BACKGROUND)
    draw, face = ImageDraw.Draw(sheet), _font()
    for number, (camera, images) in enumerate(cameras.items(), 1):
        left = GAP + (number - 1) * (PANEL[0] + GAP)
        draw.text((left, TITLE / 2), f"image {number}: {camera}", TEXT, face, anchor="lm")
        if images.image is None:
            sheet.paste(EMPTY, (left, TITLE, left + PANEL[0], TITLE + PANEL[1]))
            draw.text((left + PANEL[0] / 2, TITLE + PANEL[1] / 2), "no image came", TEXT, face, anchor="mm")
        else:
            sheet.paste(ImageOps.pad(Image.fromarray(images.image), PANEL, color=EMPTY), (left, TITLE))
    sheet.save(folder / SHEET)
    return names


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, as matplotlib ships it, so that the sheet looks the same on every machine."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"), 18)
