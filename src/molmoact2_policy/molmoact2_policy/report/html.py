# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of reports: HTML files that need nothing else, no network either."""

from __future__ import annotations

import base64
import html
import io
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #1d2126 }
h1 { margin-bottom: .2em } h2 { margin-top: 2em; border-bottom: 1px solid #e3e5e8 }
video, img { width: 100%; border-radius: 6px }
table { border-collapse: collapse; margin: .5em 0 } th { text-align: left; font-weight: 600 }
th, td { padding: .2em 1.2em .2em 0; border-bottom: 1px solid #e3e5e8; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.good { color: #1b7f4b } .bad { color: #c0392b; font-weight: 600 } .faint { color: #68717c }
"""
FAVICON = '<link rel="icon" href="data:,">'    # else a browser would ask a server for one


def inline(kind: str, data: bytes) -> str:
    """A file's content as an address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture(data: bytes | None, text: str, absent: str) -> str:
    """data: PNG; absent: what is said where there is none."""
    if data is None:
        return f'<p class="faint">{html.escape(absent)}</p>'
    return f'<img alt="{html.escape(text)}" src="{inline("image/png", data)}">'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Numbers to the right; None is a dash."""
    lines = ["<table><tr>" + "".join(f"<th>{html.escape(title)}</th>" for title in head) + "</tr>"]
    for row in rows:
        cells = []
        for value in row:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            cells.append(f'<td class="number">{value:g}</td>' if number else f"<td>{html.escape(said(value))}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def said(value: Any) -> str:
    return "–" if value is None else str(value)


def _frame(video: Path, share: float) -> bytes:
    """A frame from so far into a video, as JPEG: what is shown before it plays."""
    with av.open(str(video)) as container:
        wanted = int(container.streams.video[0].frames * share)
        frame = next(itertools.islice(container.decode(video=0), wanted, None))
    buffer = io.BytesIO()
    frame.to_image().save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def film(video: Path) -> str:
    """A video within the page, with a frame of its own that is shown before it plays."""
    source, poster = inline("video/mp4", video.read_bytes()), inline("image/jpeg", _frame(video, 1 / 3))
    return f'<video controls muted poster="{poster}" src="{source}"></video>'


def write_html(path: Path, title: str, parts: Iterable[str]) -> None:
    """parts: of the body, in order. The page is there when it is whole."""
    page = f'<!doctype html>\n<html lang="en"><meta charset="utf-8">{FAVICON}<title>{html.escape(title)}</title>'
    unfinished = path.with_name(f"{path.name}.partial")
    with unfinished.open("w", encoding="utf-8") as file:    # part by part: videos are the most of it
        file.writelines(f"{part}\n" for part in (f"{page}<style>{STYLE}</style>", *parts, "</html>"))
    os.replace(unfinished, path)
