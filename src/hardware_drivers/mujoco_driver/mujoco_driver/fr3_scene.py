# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The scene `fr3_table`: a Franka Research 3 with its hand on a table, an external camera and one at the wrist.

Kinematics, masses and the servos' gains are those of the model that franky-sim brings, Franka's own description.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco
import numpy as np

from .meshes import thinned_meshes
from .scene import TIMESTEP, Scene, SceneError, axes_towards

MESH_CELLS = 20
FEWEST = 20                  # faces of a mesh; a smaller one is drawn as it is
JOINTS = tuple(f"fr3_joint{number}" for number in range(1, 8))
HAND = (400.0, 40.0)         # stiffness [N/m] and damping [N s/m] of the fingers' servo
HAND_FORCE = 70.0            # [N]
EXTERNAL = ((1.35, 0.75, 0.80), (0.35, 0.0, 0.28))    # eye and target [m]
WRIST = ((0.07, 0.0, 0.02), (0.0, 0.0, 0.22))         # in the hand's frame [m]
BLOCKS = {"red_block": (0.45, -0.10, (0.80, 0.10, 0.10)), "blue_block": (0.50, 0.12, (0.10, 0.30, 0.80))}
BLOCK_HALF = 0.02            # [m]


def _assets() -> Path:
    found = importlib.util.find_spec("franky_sim")
    if found is None or not found.submodule_search_locations:
        raise SceneError(
            "the FR3 model is missing: package franky-sim is not installed; run `make build`, or: "
            "pip install franky-sim==1.0.4"
        )
    return Path(found.submodule_search_locations[0]) / "assets"


def fr3_table() -> Scene:
    """Errors: SceneError."""
    assets = _assets()
    spec = mujoco.MjSpec.from_file(str(assets / "fr3.xml"))
    spec.meshdir = "meshes"    # the file names a folder that is not there
    _thin(spec, assets / "fr3.xml")
    _set_physics(spec)
    _set_hand(spec)
    _add_surroundings(spec)
    eye, target = EXTERNAL
    spec.worldbody.add_camera(name="external", pos=eye, fovy=50.0, xyaxes=axes_towards(eye, target))
    eye, target = WRIST
    spec.body("hand").add_camera(name="wrist", pos=eye, fovy=70.0, xyaxes=axes_towards(eye, target, up=(1, 0, 0)))
    return Scene("fr3_table", spec.compile(), (*JOINTS, "gripper"), ("external", "wrist"), ())


def _thin(spec: mujoco.MjSpec, file: Path) -> None:
    """What is only seen is drawn with fewer faces; what collides stays."""
    seen = {geom.meshname for geom in spec.geoms if geom.classname.name == "visual"}
    solid = {geom.meshname for geom in spec.geoms if geom.classname.name != "visual"}
    meshes = thinned_meshes(file, MESH_CELLS, "meshes")
    for mesh in spec.meshes:
        vertices, faces = meshes[mesh.name]
        if mesh.name in seen - solid and len(faces) >= FEWEST:
            mesh.file, mesh.inertia = "", mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
            mesh.uservert, mesh.userface = vertices.ravel().tolist(), faces.ravel().astype(int).tolist()


def _set_physics(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.4] * 3, [0.45] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.map.znear = 0.005
    for body in spec.bodies:
        body.gravcomp = 1.0    # the robot carries its own weight
    for key in list(spec.keys):
        spec.delete(key)       # of a model without blocks


def _set_hand(spec: mujoco.MjSpec) -> None:
    """One servo moves both fingers, named as the contract's joint, 0 closed."""
    for actuator in list(spec.actuators):
        if actuator.name == "hand":
            spec.delete(actuator)
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    finger = spec.joint("finger_joint1")
    finger.name = "gripper"
    for equality in spec.equalities:
        if equality.name1 == "finger_joint1":
            equality.name1 = "gripper"
    servo = spec.add_actuator(
        name="gripper", target="gripper", trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrllimited=True, ctrlrange=[0.0, 0.04]
    )
    servo.set_to_position(kp=HAND[0], kv=HAND[1])
    servo.forcelimited, servo.forcerange = True, [-HAND_FORCE, HAND_FORCE]


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    box = mujoco.mjtGeom.mjGEOM_BOX
    spec.worldbody.add_geom(
        name="table", type=box, size=[0.6, 0.8, 0.02], pos=[0.4, 0.0, -0.02], rgba=[0.55, 0.55, 0.52, 1],
        friction=[1, 0.005, 0.0001],
    )
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[4, 4, 0.1], pos=[0, 0, -0.75], rgba=[0.35, 0.35, 0.37, 1]
    )
    spec.worldbody.add_light(pos=[0.8, 0.4, 1.8], dir=[-0.3, -0.2, -1], diffuse=[0.4] * 3, castshadow=False)
    # The base stands on the table's top.
    spec.add_exclude(bodyname1="world", bodyname2="fr3_link0")
    for name, (x, y, colour) in BLOCKS.items():
        body = spec.worldbody.add_body(name=name, pos=[x, y, BLOCK_HALF])
        body.add_freejoint(name=name)
        body.add_geom(
            name=name, type=box, size=np.full(3, BLOCK_HALF), rgba=[*colour, 1], mass=0.03, condim=4,
            friction=[1.0, 0.01, 0.0005],
        )
