# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The scenes `yam_station` and `yam_table`: two I2RT YAM arms at a table, or one.

They have linear grippers; a camera looks from above and one from each wrist. In the station the base of the left arm is
the origin, and the right one stands 0.61 m to its right. Kinematics, masses and the cameras' places are those of the
station that I2RT publishes; the servos' gains are those of the arm's own control loop. `yam_table` is the left arm of
that station by itself, with table, blocks and the camera above moved to its middle.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco

from .meshes import thinned_meshes
from .scene import TIMESTEP, Scene, SceneError

MESH_CELLS = 20
STATION = "robot_models/station/yam_station_linear_4310_d405/yam_station_linear_4310_d405.xml"
SIDES = ("left", "right")
# Stiffness [N m/rad], damping [N m s/rad] and the most torque [N m] of the motors; friction of their gears [N m].
STIFFNESS, DAMPING = (80, 80, 80, 10, 10, 10), (5, 5, 5, 1.5, 1.5, 1.5)
TORQUE, FRICTION = (28, 28, 28, 10, 10, 10), (0.3, 0.3, 0.3, 0.06, 0.06, 0.06)
FOVY = 58.0                   # of a D405, upright [deg]
TABLE_X, STATION_Y = 0.35, -0.305    # of the middle of the table; y: midway between the arms of the station [m]
# x, and y from the middle of the table [m].
BLOCKS = {"red_block": (0.38, 0.105, (0.80, 0.10, 0.10)), "blue_block": (0.42, -0.095, (0.10, 0.30, 0.80))}
BLOCK_HALF = 0.02
CHAIN = ("base", "link1", "link2", "link3", "link4", "link5", "gripper")


def _model() -> Path:
    found = importlib.util.find_spec("i2rt")
    if found is None or not found.submodule_search_locations:
        raise SceneError(
            "the YAM model is missing: package dreamscale-i2rt is not installed; run `make build`, or: "
            "pip install dreamscale-i2rt==1.3.6.post1"
        )
    return Path(found.submodule_search_locations[0]) / STATION


def yam_station() -> Scene:
    """Errors: SceneError."""
    spec = _spec()
    joints = tuple(name for side in SIDES for name in _add_servos(spec, side, f"{side}_"))
    return _finished("yam_station", spec, joints, {"top": "top", "left": "left", "right": "right"}, STATION_Y)


def yam_table() -> Scene:
    """One arm; its servos and cameras have the names of the contract yam_single. Errors: SceneError."""
    spec = _spec()
    spec.delete(spec.body("right_base"))
    x, _, z = spec.body("top_camera").pos
    spec.body("top_camera").pos = [x, 0.0, z]
    return _finished("yam_table", spec, tuple(_add_servos(spec, "left", "")), {"top": "top", "wrist": "left"}, 0.0)


def _spec() -> mujoco.MjSpec:
    """The published station, with meshes that draw fast and the physics of a world. Errors: SceneError."""
    file = _model()
    spec = mujoco.MjSpec.from_file(str(file))
    _thin(spec, file)
    _set_physics(spec)
    return spec


def _finished(name: str, spec: mujoco.MjSpec, joints: tuple[str, ...], cameras: dict[str, str], middle: float) -> Scene:
    """cameras: by name, which of the station's each is. middle: y of the middle of the table [m]."""
    _add_surroundings(spec, middle)
    for camera, body in cameras.items():
        # The body is the optical frame: z forward, y down; a camera of MuJoCo looks along -z, y up.
        spec.body(f"{body}_camera").add_camera(name=camera, fovy=FOVY).quat = [0, 1, 0, 0]
    return Scene(name, spec.compile(), joints, tuple(cameras), ())


def _thin(spec: mujoco.MjSpec, file: Path) -> None:
    meshes = thinned_meshes(file, MESH_CELLS)
    for mesh in spec.meshes:
        vertices, faces = meshes[mesh.name]
        mesh.file, mesh.inertia = "", mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        mesh.uservert, mesh.userface = vertices.ravel().tolist(), faces.ravel().astype(int).tolist()
    for site in spec.sites:
        site.group = 3    # not drawn
    for geom in spec.geoms:
        geom.rgba = [0.25, 0.25, 0.27, 1] if "camera" in geom.parent.name else [0.85, 0.85, 0.85, 1]


def _set_physics(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.45] * 3, [0.45] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.map.znear = 0.005
    for body in spec.bodies:
        # The arm's own control loop adds the torque that carries it.
        body.gravcomp = float(body.name.startswith(SIDES))


def _add_servos(spec: mujoco.MjSpec, side: str, prefix: str) -> list[str]:
    """Servos named as the joints of the contract: joint_0 .. joint_5, then the gripper, whose one motor moves both
    fingers, 0 closed; the prefix before each."""
    names = []
    for index in range(7):
        joint = spec.joint(f"{side}_joint{index + 1}")
        name = f"{prefix}gripper" if index == 6 else f"{prefix}joint_{index}"
        low, high = joint.range
        actuator = spec.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrllimited=True, ctrlrange=[low, high]
        )
        if index == 6:
            actuator.set_to_position(kp=400.0, kv=20.0)
            actuator.forcelimited, actuator.forcerange = True, [-50.0, 50.0]
        else:
            actuator.set_to_position(kp=float(STIFFNESS[index]), kv=float(DAMPING[index]))
            actuator.forcelimited, actuator.forcerange = True, [-TORQUE[index], TORQUE[index]]
            joint.armature, joint.frictionloss = 0.02, FRICTION[index]
        joint.name = name
        names.append(name)
    for equality in spec.equalities:
        if equality.name1 == f"{side}_joint7":
            equality.name1 = f"{prefix}gripper"
    for one, other in zip(CHAIN, CHAIN[1:], strict=False):
        # Neighbours touch at their joint by design; base and link 1 jam where they may.
        spec.add_exclude(bodyname1=f"{side}_{one}", bodyname2=f"{side}_{other}")
    return names


def _add_surroundings(spec: mujoco.MjSpec, middle: float) -> None:
    box = mujoco.mjtGeom.mjGEOM_BOX
    spec.worldbody.add_geom(
        name="table", type=box, size=[0.6, 0.75, 0.02], pos=[TABLE_X, middle, -0.02], rgba=[0.55, 0.55, 0.52, 1],
        friction=[1, 0.005, 0.0001],
    )
    sky = spec.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=64, height=384)
    sky.builtin, sky.rgb1, sky.rgb2 = mujoco.mjtBuiltin.mjBUILTIN_FLAT, [0.6, 0.62, 0.65], [0.6, 0.62, 0.65]
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[4, 4, 0.1], pos=[0, 0, -0.75], rgba=[0.35, 0.35, 0.37, 1],
    )
    spec.worldbody.add_light(
        pos=[0.4, -0.3, 2.5], dir=[0, 0, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, diffuse=[0.5] * 3,
        castshadow=False,
    )
    for name, (x, y, colour) in BLOCKS.items():
        body = spec.worldbody.add_body(name=name, pos=[x, middle + y, BLOCK_HALF])
        body.add_freejoint(name=name)
        body.add_geom(
            name=name, type=box, size=[BLOCK_HALF] * 3, rgba=[*colour, 1], mass=0.05, condim=4,
            friction=[1.0, 0.01, 0.0005],
        )
