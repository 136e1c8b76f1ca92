# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Thinner visual meshes for software rendering: vertices clustered on a grid, cached on disk.

Software rendering costs by vertices, not by pixels; the SO-101 as shipped has 323,000 faces.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import mujoco
import numpy as np


def cache_folder() -> Path:
    """Where thinned meshes are kept (XDG base directory rules)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "molmoact2" / "meshes"


def thin(vertices: np.ndarray, faces: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Merges the vertices that share a grid cell and drops faces that collapse or repeat.

    vertices: float (V, 3); faces: int (F, 3); cells: grid cells along the longest side. Returns the same, smaller.
    """
    low = vertices.min(axis=0)
    edge = max(float((vertices.max(axis=0) - low).max()), 1e-9) / cells
    cell = np.floor((vertices - low) / edge).astype(np.int64)
    _, owner = np.unique(cell, axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    count = np.bincount(owner)
    merged = np.stack([np.bincount(owner, weights=vertices[:, axis]) / count for axis in range(3)], axis=1)
    triangles = owner[faces]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (a != c)]
    _, first = np.unique(np.sort(triangles, axis=1), axis=0, return_index=True)
    return merged, triangles[np.sort(first)]


def thinned_meshes(model_file: Path, cells: int, meshdir: str = "") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Thinned meshes of an MJCF file by name, in the frame of the mesh file (as `uservert`, `userface` want them).

    meshdir: where the meshes are, beside the file, if the file names another place. Read from the cache where it holds
    them; a damaged cache is made anew.
    """
    key = hashlib.sha256(f"1 {mujoco.__version__} {cells} ".encode() + _fingerprint(model_file)).hexdigest()[:16]
    file = cache_folder() / f"{model_file.stem}-{key}.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            names = sorted({name.rsplit("/", 1)[0] for name in stored.files})
            if names:
                return {name: (stored[f"{name}/v"], stored[f"{name}/f"]) for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    meshes = _thin_all(model_file, cells, meshdir)
    _store(file, meshes)
    return meshes


def _fingerprint(model_file: Path) -> bytes:
    digest = hashlib.sha256(model_file.read_bytes())
    for mesh in sorted(model_file.parent.rglob("*.stl")):
        digest.update(f"{mesh.name} {mesh.stat().st_size}".encode())
    return digest.digest()


def _thin_all(model_file: Path, cells: int, meshdir: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    spec = mujoco.MjSpec.from_file(str(model_file))
    if meshdir:
        spec.meshdir = meshdir
    names = [mesh.name for mesh in spec.meshes]
    model = spec.compile()
    meshes = {}
    for name in names:
        index = model.mesh(name).id
        start, count = model.mesh_vertadr[index], model.mesh_vertnum[index]
        vertices = model.mesh_vert[start : start + count].astype(np.float64)
        start, count = model.mesh_faceadr[index], model.mesh_facenum[index]
        faces = model.mesh_face[start : start + count].astype(np.int64)
        # The compiler moves a mesh into its inertial frame; undo that.
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.mesh_quat[index])
        meshes[name] = thin(vertices @ rotation.reshape(3, 3).T + model.mesh_pos[index], faces, cells)
    return meshes


def _store(file: Path, meshes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Written beside and moved into place, so that nobody ever reads half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for name, (vertices, faces) in meshes.items():
        arrays |= {f"{name}/v": vertices, f"{name}/f": faces}
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".npz", delete=False) as temporary:
        np.savez_compressed(temporary, **arrays)
    os.replace(temporary.name, file)
