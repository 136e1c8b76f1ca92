# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Data sets made file by file, as others write them, and small ones with known content."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow
from pyarrow import parquet

from molmoact2_data.layout import PICTURE
from molmoact2_data.writer import DatasetWriter, Row

SIZE = (32, 48)
FPS = 10
CAMERA = "observation.images.front"


def moving(length: int, joints: int = 2, seed: int = 0) -> np.ndarray:
    """Smooth values that never rest: float32 (length, joints)."""
    phases = np.random.default_rng(seed).uniform(0, 6, joints)
    return np.sin(0.15 * np.arange(length)[:, None] + phases).astype(np.float32)


def scene(frame: int, seed: int = 0) -> np.ndarray:
    """An image with a bright block that goes on with each frame: uint8 (32, 48, 3)."""
    image = np.full((*SIZE, 3), 60, np.uint8)
    left = (3 * frame + 5 * seed) % (SIZE[1] - 12)
    image[8:24, left : left + 12] = (220, 180, 40)
    return image


def following(states: np.ndarray) -> np.ndarray:
    """Actions that the states follow: each is where the joints are at the next frame."""
    return np.concatenate([states[1:], states[-1:]])


def write_set(
    root: Path, states: Sequence[np.ndarray], *, actions: Sequence[np.ndarray] | None = None,
    images: Callable[[int, int], np.ndarray] = lambda episode, frame: scene(frame, episode),
    tasks: Sequence[str] | None = None, names: Sequence[str] = ("a", "b"), cameras: Sequence[str] = ("front",),
    notes: dict | None = None,
) -> Path:
    """A sound data set of version 3 by this suite's own writer, but for what is given."""
    with DatasetWriter(root, FPS, names, dict.fromkeys(cameras, SIZE), "toy", notes or {}) as writer:
        for episode, values in enumerate(states):
            told = following(values) if actions is None else actions[episode]
            writer.begin(f"do thing number {episode}" if tasks is None else tasks[episode], len(values), {})
            for frame, (state, action) in enumerate(zip(values, told, strict=True)):
                writer.add(Row(state, action, dict.fromkeys(cameras, images(episode, frame))))
            writer.end()
    return root


def write_older(
    root: Path, states: Sequence[np.ndarray], *, as_images: bool = False, key_frames: int = 2, rate: int = FPS,
    names: Sequence[str] = ("a", "b"),
) -> Path:
    """A data set of version 2.1: a parquet file and videos for each episode. as_images: PNG in the parquet file
    instead of videos; rate: of the videos."""
    what = {"dtype": "image" if as_images else "video", "shape": [*SIZE, 3], "names": ["height", "width", "channel"]}
    vector = {"dtype": "float32", "shape": [len(names)], "names": {"motors": list(names)}}
    video = None if as_images else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    info = {
        "codebase_version": "v2.1", "robot_type": "toy", "total_episodes": len(states),
        "total_frames": sum(map(len, states)), "total_tasks": len(states), "chunks_size": 1000, "fps": FPS,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", "video_path": video,
        "features": {"observation.state": vector, "action": vector, CAMERA: what},
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    texts = [f"do thing number {episode}" for episode in range(len(states))]
    lines(root / "meta/tasks.jsonl", [{"task_index": index, "task": text} for index, text in enumerate(texts)])
    about = [{"episode_index": i, "tasks": [texts[i]], "length": len(values)} for i, values in enumerate(states)]
    lines(root / "meta/episodes.jsonl", about)
    for episode, values in enumerate(states):
        pictures = [scene(frame, episode) for frame in range(len(values))]
        columns = {
            "observation.state": pyarrow.array(values.tolist(), pyarrow.list_(pyarrow.float32())),
            "action": pyarrow.array(following(values).tolist(), pyarrow.list_(pyarrow.float32())),
            "timestamp": pyarrow.array((np.arange(len(values)) / FPS).astype(np.float32)),
            "frame_index": np.arange(len(values)), "episode_index": np.full(len(values), episode),
        }  # fmt: skip
        if as_images:
            columns[CAMERA] = pyarrow.array([{"bytes": png(p), "path": "frame.png"} for p in pictures], PICTURE)
        else:
            encode(root / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4", pictures, key_frames, rate)
        path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table(columns), path)
    return root


def lines(path: Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode(path: Path, images: Sequence[np.ndarray], key_frames: int = 2, rate: int = FPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"g": str(key_frames), "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def edit_info(root: Path, **changes) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_feature(root: Path, feature: str, **changes) -> None:
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[feature] |= changes
    edit_info(root, features=features)


def edit_column(path: Path, name: str, change: Callable[[list], list]) -> None:
    """Puts other values into one column of a parquet file."""
    table = parquet.read_table(path)
    place = table.column_names.index(name)
    parquet.write_table(table.set_column(place, name, pyarrow.array(change(table[name].to_pylist()))), path)


def with_tasks(
    root: Path, numbers: Sequence[Sequence[int]], words: Sequence[str], stated: Sequence[Sequence[str]]
) -> Path:
    """Gives an older data set (`write_older`) other instructions. numbers: of each episode's frames; stated: of each
    episode, as its meta data have them."""
    lines(root / "meta/tasks.jsonl", [{"task_index": index, "task": text} for index, text in enumerate(words)])
    about = [
        {"episode_index": index, "length": len(values)} | ({"tasks": list(stated[index])} if stated[index] else {})
        for index, values in enumerate(numbers)
    ]
    lines(root / "meta/episodes.jsonl", about)
    for episode, values in enumerate(numbers):
        path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        table = parquet.read_table(path)
        parquet.write_table(table.append_column("task_index", pyarrow.array(list(values))), path)
    return root
