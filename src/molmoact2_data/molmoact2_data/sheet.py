# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Contact sheets of data sets, and a page that holds them beside the figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from .inspection import Inspection, range_rows, told
from .layout import DatasetError
from .reader import Dataset, Episode

EPISODES, MOMENTS = 6, 3    # rows, and images of each camera in a row
WIDTH, LINE, EDGE = 176, 20, 4
PAPER, INK = 250, 30

STYLE = """body{font:14px/1.5 sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}
td,th{padding:.15em .9em .15em 0;text-align:left;border-bottom:1px solid #ddd}
img{max-width:100%}pre{overflow-x:auto}.odd{color:#a40000}"""


def write_page(folder: Path, inspections: Sequence[Inspection]) -> Path:
    """index.html and a sheet of each data set (sheet_N.png). Errors: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    body = []
    for number, one in enumerate(inspections):
        body.append(f"<h2>{html.escape(str(one.dataset.root))}</h2>")
        body += [f'<p class="odd">{html.escape(text)}</p>' for text in one.odd]
        if one.dataset.cameras:
            picture = cv2.imencode(".png", sheet(one.dataset))[1].tobytes()
            (folder / f"sheet_{number}.png").write_bytes(picture)
            body.append(f'<img alt="images" src="data:image/png;base64,{base64.b64encode(picture).decode()}">')
        head, *rows = range_rows(one)
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        body.append(f"<table><tr>{cells}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>")
    path = folder / "index.html"
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Data sets</title><style>{STYLE}</style>'
        f"<h1>Data sets</h1><pre>{html.escape(told(inspections))}</pre>{''.join(body)}</html>\n",
        "utf8",
    )
    return path


def sheet(dataset: Dataset) -> np.ndarray:
    """uint8 (H, W, 3) BGR: a row for each of some episodes, with first, middle and last image of every camera."""
    chosen = np.unique(np.linspace(0, len(dataset.episodes) - 1, EPISODES).round().astype(int))
    return np.concatenate([_row(dataset, dataset.episodes[index]) for index in chosen])


def _row(dataset: Dataset, episode: Episode) -> np.ndarray:
    height = WIDTH * 3 // 4
    tiles = MOMENTS * len(dataset.cameras)
    row = np.full((LINE + height + EDGE, tiles * (WIDTH + EDGE), 3), PAPER, np.uint8)
    text = f"{episode.index}: {episode.task}"
    try:
        for index, image in enumerate(_images(dataset, episode)):
            left = index * (WIDTH + EDGE)
            small = _fitted(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), WIDTH, height)
            row[LINE : LINE + small.shape[0], left : left + small.shape[1]] = small
    except DatasetError as error:
        text = f"{episode.index}: {error}"
    cv2.putText(row, text, (EDGE, LINE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (INK, INK, INK), 1, cv2.LINE_AA)
    return row


def _images(dataset: Dataset, episode: Episode) -> list[np.ndarray]:
    frames = np.linspace(0, episode.length - 1, MOMENTS).round().astype(int)
    wanted = sorted(set(frames.tolist()))
    found = []
    for camera in dataset.cameras:
        images = dict(zip(wanted, dataset.pictures(episode, camera, wanted), strict=True))
        found += [images[frame] for frame in frames.tolist()]
    return found


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
