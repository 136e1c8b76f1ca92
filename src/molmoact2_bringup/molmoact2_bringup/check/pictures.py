# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures to look at: what each camera showed, and all of them in the model's order. No ROS here."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from molmoact2_policy.view.draw import BACKGROUND, TEXT, font, picture

from .heard import Images

SHEET = "cameras.png"
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
    draw = ImageDraw.Draw(sheet)
    for number, (camera, images) in enumerate(cameras.items(), 1):
        left = GAP + (number - 1) * (PANEL[0] + GAP)
        draw.text((left, TITLE / 2), f"image {number}: {camera}", TEXT, font(18, bold=True), anchor="lm")
        sheet.paste(picture(images.image, PANEL, "no image came"), (left, TITLE))
    sheet.save(folder / SHEET)
    return names
