# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a seed changes in a varied scene besides places: light, colours, the table's texture, where cameras stand, how
large cubes are."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import mujoco
import numpy as np

from .scene import COLOURS, CUBE_HALF, TEXTURES, Scene

SALT, TEXTURE_SALT = 7919, 7927    # so that places, looks and textures are drawn apart


@dataclass(frozen=True)
class _Nominal:
    """A model's values before any seed changed them."""

    diffuse: np.ndarray
    ambient: np.ndarray
    light: np.ndarray
    light_pos: np.ndarray
    rgba: np.ndarray
    cam_pos: np.ndarray
    cam_quat: np.ndarray

    @classmethod
    def of(cls, model: mujoco.MjModel) -> _Nominal:
        head = model.vis.headlight
        arrays = (
            head.diffuse, head.ambient, model.light_diffuse, model.light_pos, model.geom_rgba, model.cam_pos,
            model.cam_quat,
        )
        return cls(*(np.array(array) for array in arrays))


_KNOWN: weakref.WeakKeyDictionary[mujoco.MjModel, tuple[_Nominal, int]] = weakref.WeakKeyDictionary()


def apply_variation(scene: Scene, seed: int) -> None:
    """Changes the scene's model in place, as the seed says; the same seed, the same look, whatever was before. Does
    nothing to a scene that is not varied."""
    if not scene.varied:
        return
    model = scene.model
    nominal, applied = _KNOWN.get(model) or (_Nominal.of(model), None)
    if applied == seed:
        return
    _KNOWN[model] = nominal, seed
    random = np.random.default_rng([seed, SALT])
    model.vis.headlight.diffuse[:] = nominal.diffuse * random.uniform(0.7, 1.25)
    model.vis.headlight.ambient[:] = nominal.ambient * random.uniform(0.8, 1.15)
    model.light_diffuse[:] = nominal.light * random.uniform(0.4, 1.4)
    model.light_pos[:] = nominal.light_pos + random.uniform(-0.3, 0.3, nominal.light_pos.shape)
    _colour(model, nominal, random)
    _texture(model, np.random.default_rng([seed, TEXTURE_SALT]))
    model.cam_pos[:] = nominal.cam_pos + random.uniform(-0.01, 0.01, nominal.cam_pos.shape) * _far(scene)
    for index in range(model.ncam):
        model.cam_quat[index] = _turned(nominal.cam_quat[index], random.uniform(-0.025, 0.025, 3))
    for cube in scene.cubes:
        _resize(model, cube, CUBE_HALF * random.uniform(0.88, 1.08))


def _colour(model: mujoco.MjModel, nominal: _Nominal, random: np.random.Generator) -> None:
    model.geom_rgba[:] = nominal.rgba
    table = model.geom("table").id
    model.geom_rgba[table, :3] = random.uniform(0.35, 0.75) + random.uniform(-0.06, 0.06, 3)
    for cube in COLOURS:
        geom = model.geom(cube).id
        model.geom_rgba[geom, :3] = np.clip(nominal.rgba[geom, :3] + random.uniform(-0.07, 0.07, 3), 0.02, 1.0)


def _texture(model: mujoco.MjModel, random: np.random.Generator) -> None:
    """Of the table, which stays plain in a third of the seeds; a pattern repeats every 4 to 25 cm."""
    plain, name, repeats = random.random() < 1 / 3, str(random.choice(list(TEXTURES))), random.uniform(4, 25)
    material = model.material(name).id
    model.mat_texrepeat[material] = repeats
    model.geom_matid[model.geom("table").id] = -1 if plain else material


def _far(scene: Scene) -> np.ndarray:
    """(cameras, 1): one that rides on the arm is mounted well, one that stands in the room is pushed about."""
    return np.array([[0.2 if scene.model.cam_bodyid[index] else 1.0] for index in range(scene.model.ncam)])


def _turned(quaternion: np.ndarray, angles: np.ndarray) -> np.ndarray:
    by, turned = np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(by, angles / max(float(np.linalg.norm(angles)), 1e-9), float(np.linalg.norm(angles)))
    mujoco.mju_mulQuat(turned, quaternion, by)
    return turned


def _resize(model: mujoco.MjModel, cube: str, half: float) -> None:
    geom, body = model.geom(cube).id, model.body(cube).id
    model.geom_size[geom] = half
    model.geom_rbound[geom] = half * 3**0.5
    model.geom_aabb[geom, 3:] = half
    model.body_inertia[body] = model.body_mass[body] * (2 * half) ** 2 / 6
