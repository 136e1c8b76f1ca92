# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of LeRobotDataset v3.0 (facts from its reader and writer, lerobot 0.6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow

VERSION = "v3.0"
NOTES = "meta/molmoact2.json"    # what this suite adds
# A note: somebody else drove, and every so many frames the alternatives say what the demonstrator would have done.
CORRECTED = "corrected_every"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
DEPTH = "observation.depth."    # 16-bit PNG, millimetres along the optical axis, 0: nothing measured
PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])    # an image in a parquet file
TIME, TASK = "timestamp", "task_index"
INDICES = ("frame_index", "episode_index", "index", TASK)    # int64, beside timestamp, float32
CHUNK_FILES = 1000
DATA_MB, VIDEO_MB = 100, 200    # a file that has grown to this is followed by another
CODEC, PIXELS = "h264", "yuv420p"


class DatasetError(RuntimeError):
    """A dataset cannot be read or written; the text names it and says why."""


def features(
    joints: Sequence[str], cameras: Mapping[str, tuple[int, int]], fps: int, depth: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """cameras, depth: name -> (height, width)."""
    vector = {"dtype": "float32", "shape": [len(joints)], "names": list(joints)}
    found: dict[str, Any] = {STATE: vector, ACTION: dict(vector)}
    for name, (height, width) in cameras.items():
        found[IMAGES + name] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height, "video.width": width, "video.channels": 3, "video.fps": fps,
                "video.codec": CODEC, "video.pix_fmt": PIXELS, "has_audio": False, "is_depth_map": False,
            },
        }
    for name, (height, width) in depth.items():
        what = {"dtype": "image", "shape": [height, width, 1], "names": ["height", "width", "channels"]}
        found[DEPTH + name] = what | {"info": {"unit": "mm", "is_depth_map": True}}
    found[TIME] = {"dtype": "float32", "shape": [1], "names": None}
    found |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in INDICES}
    return found


def info(fps: int, what: Mapping[str, Any], robot: str, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """The content of info.json. what: of `features`."""
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "fps": fps,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "data_path": DATA,
        "video_path": VIDEO,
        "splits": {"train": f"0:{episodes}"},
        "features": dict(what),
    }
