# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import numpy as np
import pytest

from molmoact2_contract import ContractError, load_contract, load_system, resources
from molmoact2_contract.reading import parse

ROOT = Path(__file__).resolve().parents[3]
SO101 = ROOT / "config/embodiments/so101.yaml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """A copy of the SO-101 contract with one text replaced."""
    text = SO101.read_text()
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "config/embodiments").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_contract_of_the_suite_loads_and_every_joint_has_sane_limits(path):
    contract = load_contract(path)
    assert (contract.values("lower") < contract.values("upper")).all()
    assert (contract.values("velocity") > 0).all()
    assert contract.norm_tags
    assert all(arm.stopping for arm in contract.arms.values())


@pytest.mark.parametrize("path", sorted((ROOT / "config/systems").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_system_of_the_suite_loads(path):
    system = load_system(path)
    assert system.processes
    for process in system.processes:
        assert process.parameters["contract"] == str(system.contract.path)


def test_an_so100_is_reckoned_with_its_own_links_which_turn_as_an_so101_does():
    so100, so101 = (load_contract(SO101.with_name(f"{name}.yaml")) for name in ("so100", "so101"))
    assert load_system("so100").contract.path == load_system("so100_double").contract.path == so100.path
    own, other = (contract.arm("arm").kinematics.frames for contract in (so100, so101))
    # Where the URDF that the links are from has the tip of its fixed jaw, by a reckoning of its own.
    for pose, tip in (("zero", (0.3958, 0.0, 0.2268)), ("home", (0.1927, 0.0, 0.0887))):
        positions = np.zeros(6) if pose == "zero" else so100.values(pose)
        assert own(positions)["gripper_frame_link"][:3, 3] == pytest.approx(tip, abs=1e-4)
    for positions in np.random.default_rng(0).uniform(so100.values("lower"), so100.values("upper"), (50, 6)):
        ours, theirs = own(positions), other(positions)
        for link in ("gripper_link", "gripper_frame_link"):
            assert 0.002 < np.linalg.norm(ours[link][:3, 3] - theirs[link][:3, 3]) < 0.011
        assert np.abs(ours["gripper_frame_link"][:3, :3] - theirs["gripper_frame_link"][:3, :3]).max() < 0.05


def test_the_released_so101_tag_speaks_degrees_of_the_old_calibration():
    frames = load_contract(SO101).norm_tag("so100_so101_molmoact2").frames
    at_zero = [frames[j].offset for j in frames]
    assert at_zero == [0, 90, 90, 0, 0, 0]
    assert np.sign([frames[j].scale for j in frames]).tolist() == [1, -1, 1, 1, 1, 1]
    assert frames["shoulder_lift"].scale * np.pi == pytest.approx(-180)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("velocity: 2.0,", "velocity: 0,", "shoulder_pan.velocity must be at least 0.01"),
        ("position: [-1.9199, 1.9199]", "position: [1.9199, -1.9199]", "lower < upper"),
        ("position: [-1.9199, 1.9199]", "position: [-1.9199, .nan]", "must be a finite number"),
        ("home: 0.0, rest", "home: 9.0, rest", "outside the position limits"),
        ("setpoint_hz: 100", "setpoint_hz: 0", "control.setpoint_hz must be at least 20"),
        ("setpoint_hz: 100", "setpoint_herz: 100", "control.setpoint_hz is missing"),
        ("skew_limit: 0.05", "skew_limit: 0.05\n  surplus: 1", "control.surplus is not known here"),
        ("wrist_roll, gripper]", "wrist_roll]", "must give joint 'gripper' to exactly one arm"),
        ("wrist_roll, gripper]", "wrist_roll, gripper, tail]", "names 'tail'"),
        ("cameras: [front, wrist]", "cameras: [front, back]", "names 'back'"),
        ("shoulder_lift: {unit: deg, sign: -1", "shoulder_lift: {unit: deg, sign: 2", "sign must be 1 or -1"),
        ("gripper: {closed: 0, open: 100}", "gripper: {closed: 1, open: 1}", "open must differ from closed"),
        ("jerk: 600, soft_zone: 0.1", "jerk: 0, soft_zone: 0.1", "shoulder_pan.jerk must be at least 1"),
        ("jerk: 600, soft_zone: 0.1", "soft_zone: 0.1", "shoulder_pan.jerk is missing"),
        ("soft_zone: 0.1", "soft_zone: 2.5", "shoulder_pan.soft_zone must be at most 1"),
        ("blend_window: 0.25", "blend_window: 0", "control.blend_window must be at least 0.02"),
        ("parent: base_link, joint", "parent: basis, joint", "shoulder_link.parent must be one of base_link"),
        ("joint: elbow_flex", "joint: elbow", "lower_arm_link.joint must be one of shoulder_pan"),
        ("joint: elbow_flex", "joint: shoulder_lift", "turns another link already"),
        ("joint: elbow_flex, ", "", "axis is not known here"),
        ("joint: wrist_roll, xyz: [0, -0.0611, 0.0181]", "joint: wrist_roll, xyz: [0, -0.0611]", "must be 3 numbers"),
        ("xyz: [0.0388353, 0, 0.0624]", "xyz: [0.0388353, .nan, 0.0624]", "must be a finite number"),
        ("axis: [0, 0, 1]}", "axis: [0, 0, 0]}", "axis must not be zero"),
        ("lower: [-0.20, -0.48, -0.05]", "lower: [0.60, -0.48, -0.05]", "upper must be greater than lower"),
        ("table: -0.01", "table: 0.05", "leaves out the rest pose: gripper_frame_link would be 57 mm outside"),
        ("points: {gripper_frame_link: 0,", "points: {finger: 0,", "points.finger is not a link of the arm"),
        ("points: {gripper_frame_link: 0,", "points: {gripper_frame_link: -1,", "must be at least 0"),
        ("mount: {parent: base_link", "mount: {parent: tripod", "front.mount.parent must be one of base_link, sh"),
        ("xyz: [0.50, 0, 0.38]", "xyz: [0.50, 0, .inf]", "front.mount.xyz must be a finite number"),
        ("rpy: [-2.39964539, 0, 1.57079633]", "rpy: [-2.39964539]", "front.mount.rpy must be 3 numbers"),
        ("rpy: [-2.39964539, 0, 1.57079633]", "quaternion: [1]", "front.mount.rpy is missing"),
        ("frame_id: front_optical_frame", "frame_id: gripper_link", "front.frame_id is a link of the robot"),
        ("path: assets/so101_new_calib.urdf", "path: ../so101.urdf", "urdf.path must lie within the package"),
        ("path: assets/so101_new_calib.urdf", "file: so101.urdf", "urdf.path is missing"),
        ("      lost_state: ", "      lost: ", "arms.arm.stopping.lost_state is missing"),
        ("      disarm: it", "      disarm: ''  # it", "arms.arm.stopping.disarm must be a non-empty text"),
        ("      close: its", "      power: it falls\n      close: its", "arms.arm.stopping.power is not known here"),
        ("    model_frame:", "    frame_of_model:", "model_frame is missing"),
        ("velocity: 2.0,", "velocity: 200,", "shoulder_pan.velocity must be at most 20"),
        ("velocity: 2.0,", "velocity: 1:30,", "shoulder_pan.velocity must be a finite number, not '1:30'"),
        ("velocity: 2.0,", "velocity: 010,", "shoulder_pan.velocity must be a finite number, not '010'"),
        ("velocity: 2.0,", "velocity: 2_000,", "shoulder_pan.velocity must be a finite number, not '2_000'"),
        ("velocity: 2.0,", "velocity: 1e999,", "shoulder_pan.velocity must be a finite number, not inf"),
        ("velocity: 2.0,", f"velocity: 1{'0' * 400},", "shoulder_pan.velocity is beyond 1e+06"),
        ("velocity: 2.0,", "velocity: !!int fast,", "shoulder_pan.velocity cannot be read"),
        ("velocity: 2.0,", "velocity: !speed 2.0,", "shoulder_pan.velocity cannot be read: could not determine"),
        ("acceleration: 12.0", "acceleration: 12000", "shoulder_pan.acceleration must be at most 200"),
        ("jerk: 600", "jerk: 600000", "shoulder_pan.jerk must be at most 20000"),
        ("tracking: 0.35", "tracking: 35", "shoulder_pan.tracking must be at most 1.57"),
        ("position: [-1.9199, 1.9199]", "position: [-110, 110]", "shoulder_pan.position must be at least -12.5"),
        ("joint_state_timeout: 0.2", "joint_state_timeout: 200", "control.joint_state_timeout must be at most 1"),
        ("max_observation_age: 1.0", "max_observation_age: 1000", "control.max_observation_age must be at most 10"),
        ("dt: 0.03333333333333333", "dt: 33.3", "dt must be at most 1"),
        ("first_offset: 1", "first_offset: 100", "first_offset must be at most 10"),
        ("  arm:\n", "  policy:\n", "arms.policy is used by the suite itself"),
        ("  arm:\n", "  left arm:\n", "arms.left arm must be a name for ROS"),
        ("topic: front/image_raw", "topic: front image", "cameras.front.topic must be the name of a topic"),
        ("table: -0.01", "table: -10", "table must be greater than -2"),
        ("xyz: [0.0388353, 0, 0.0624]", "xyz: [38.8353, 0, 624]", "shoulder_link.xyz must be at most 100"),
        ("format: molmoact2_contract.v1", "format: something_else", "must be molmoact2_contract.v1"),
        ("embodiment: so101", "embodiment: so101\nembodiment: so102", "given twice"),
    ],
)
def test_a_wrong_contract_is_refused_and_the_error_names_file_and_line(tmp_path, old, new, named):
    path = changed(tmp_path, old, new)
    with pytest.raises(ContractError) as error:
        load_contract(path)
    assert named in str(error.value)
    file, line, _ = str(error.value).split(":", 2)
    assert file == str(path)
    assert int(line) >= 1


def test_a_contract_says_in_sentences_what_stopping_does_to_the_arm():
    arms = load_contract(SO101.with_name("yam_bimanual.yaml")).arms
    assert arms["left"].stopping == arms["right"].stopping
    assert "it falls" in arms["left"].stopping.process_death
    shown = str(load_contract(SO101).arm("arm").stopping)
    assert shown.startswith("Disarm: it comes to rest, and its servos hold their last goals. FAULT: ")
    for words in ("Lost state: ", "Process death: ", "Close: "):
        assert words in shown


def without_stopping(tmp_path: Path) -> Path:
    text = SO101.read_text()
    path = tmp_path / "mute.yaml"
    path.write_text(text[: text.index("    stopping:\n")] + text[text.index("    # The frames of the SO-101") :])
    return path


@pytest.mark.parametrize("moves", ["executable: arm_controller", "executable: something_else"])
@pytest.mark.parametrize("simulation", ["true", "false"])
def test_a_real_arm_is_not_started_where_its_contract_does_not_say_what_stopping_does(tmp_path, simulation, moves):
    text = (ROOT / "config/systems/so101.yaml").read_text()
    path = tmp_path / "mine.yaml"
    text = text.replace("contract: so101 ", f"contract: {without_stopping(tmp_path)} ", 1)
    text = text.replace("simulation: false", f"simulation: {simulation}", 1)
    path.write_text(text.replace("executable: arm_controller", moves, 1))
    if simulation == "true" or "arm_controller" not in moves:
        assert load_system(path).contract.arm("arm").stopping is None
        return
    with pytest.raises(ContractError, match=r"mute.yaml: arms.arm.stopping is missing, which .*mine.yaml needs"):
        load_system(path)


FRANKA = ROOT / "config/embodiments/franka_droid.yaml"


def test_how_an_arm_yields_is_read_of_each_joint_that_turns():
    given = load_contract(FRANKA).arm("arm").compliance
    assert given.stiffness == (600, 600, 600, 600, 250, 150, 50) and len(given.damping) == 7
    assert given.torque_thresholds == (20,) * 7 and given.force_thresholds == (30,) * 6
    assert load_contract(SO101).arm("arm").compliance is None


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("stiffness: [600, 600,", "stiffness: [600,", "compliance.stiffness must be 7 numbers"),
        ("stiffness: [600,", "stiffness: [6000,", "compliance.stiffness must be at most 1500, not 6000"),
        ("stiffness: [600,", "stiffness: [.nan,", "compliance.stiffness must be a finite number"),
        ("damping: [50,", "damping: [0,", "compliance.damping must be greater than 0"),
        ("damping: [50,", "damping: [500,", "compliance.damping must be at most 200"),
        ("torque_thresholds: [20,", "torque_thresholds: [-20,", "torque_thresholds must be greater than 0"),
        ("torque_thresholds: [20,", "torque_thresholds: [100,", "torque_thresholds must be at most 87"),
        ("force_thresholds: [30,", "force_thresholds: [300,", "force_thresholds must be at most 100"),
        ("force_thresholds: [30, 30,", "force_thresholds: [30,", "force_thresholds must be 6 numbers"),
        ("      force_thresholds: [30, 30, 30, 30, 30, 30]\n", "", "compliance.force_thresholds is missing"),
        ("force_thresholds:", "forces: [1]\n      force_thresholds:", "compliance.forces is not known here"),
    ],
)
def test_a_compliance_that_no_arm_should_have_is_refused(tmp_path, old, new, named):
    text = FRANKA.read_text()
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ContractError, match=f"changed.yaml:[0-9]+: .*{re.escape(named)}"):
        load_contract(path)


def test_the_line_of_an_error_is_the_line_of_the_wrong_value(tmp_path):
    path = changed(tmp_path, "velocity: 2.0,", "velocity: -1,")
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "velocity: -1," in text)
    with pytest.raises(ContractError, match=f":{line}:"):
        load_contract(path)


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("joints: [1, 2")
    with pytest.raises(ContractError, match="is not YAML"):
        load_contract(path)


def test_an_unknown_name_lists_the_names_there_are(monkeypatch):
    monkeypatch.setenv("MOLMOACT2_ROOT", str(ROOT))
    with pytest.raises(ContractError, match="so101"):
        load_contract("so1001")
    with pytest.raises(ContractError, match="so101_sim"):
        load_system("no_such_system")


def test_of_folders_only_folders_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "share_folders", lambda: [tmp_path])
    (tmp_path / "checkpoints/mine").mkdir(parents=True)
    (tmp_path / "checkpoints/make.py").write_text("")
    with pytest.raises(ContractError, match="names there: mine$"):
        resources.find_resource("checkpoints", "other")


def test_an_unknown_norm_tag_or_arm_lists_those_there_are():
    contract = load_contract(SO101)
    with pytest.raises(ContractError, match="so100_so101_molmoact2"):
        contract.norm_tag("franka_droid")
    with pytest.raises(ContractError, match="there are: arm"):
        contract.arm("left")


def test_a_file_that_is_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "deep.yaml"
    path.write_text("[" * 100_000)
    with pytest.raises(ContractError, match="is not YAML"):
        load_contract(path)


def test_scalars_are_those_of_yaml_1_2():
    texts = ("7", "-7", "0", "7.5", "7.", ".5", "1e3", "-1.5e-3", "~", "2001-01-01", "1:30", "0x1F", "010", "1_0")
    assert [parse(text) for text in texts] == [
        7, -7, 0, 7.5, 7.0, 0.5, 1000.0, -0.0015, None, "2001-01-01", "1:30", "0x1F", "010", "1_0",
    ]


def test_only_true_and_false_are_booleans():
    assert [parse(text) for text in ("off", "on", "yes", "No", "true", "False")] == [
        "off", "on", "yes", "No", True, False,
    ]


def test_a_folder_of_that_name_does_not_hide_a_contract(tmp_path, monkeypatch):
    (tmp_path / "so101").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_contract("so101").embodiment == "so101"


def test_a_system_with_a_parameter_ros_cannot_hold_is_refused(tmp_path):
    text = (ROOT / "config/systems/so101_sim.yaml").read_text()
    path = tmp_path / "sys.yaml"
    path.write_text(text.replace("seed: 1", "seed: {a: 1}").replace("contract: so101", f"contract: {SO101}"))
    with pytest.raises(ContractError, match="seed"):
        load_system(path)
    path.write_text(text.replace("seed: 1", "contract: x").replace("contract: so101", f"contract: {SO101}", 1))
    with pytest.raises(ContractError, match="set for every process"):
        load_system(path)


def test_frames_of_many_positions_at_once_are_those_of_each_alone():
    arm = load_contract(SO101).arm("arm")
    many = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 5, 6))
    frames = arm.kinematics.frames(many)
    assert frames["gripper_frame_link"].shape == (4, 5, 4, 4)
    alone = arm.kinematics.frames(many[2, 3])
    for name, frame in frames.items():
        np.testing.assert_allclose(frame[2, 3], alone[name], atol=1e-12)


def test_an_arm_without_a_workspace_is_never_outside(tmp_path):
    text = SO101.read_text()
    path = tmp_path / "free.yaml"
    path.write_text(text[: text.index("    # Set this to your table")] + text[text.index("cameras:\n") :])
    arm = load_contract(path).arm("arm")
    assert arm.workspace is None
    assert arm.depths(np.zeros((3, 6))).shape == (3, 0)
    assert arm.outside(np.full(6, 9.0)) == ""


def test_a_workspace_without_links_is_refused_because_nothing_could_be_checked(tmp_path):
    text = SO101.read_text()
    path = tmp_path / "blind.yaml"
    path.write_text(text[: text.index("    # The frames of the SO-101")] + text[text.index("    # Set this to your") :])
    with pytest.raises(ContractError, match="workspace needs the arm's links"):
        load_contract(path)


def test_a_point_is_as_far_outside_as_its_nearest_way_back_in_is_long():
    workspace = load_contract(SO101).arm("arm").workspace
    points = np.array([[0.2, 0.0, 0.1], [0.52, 0.0, 0.1], [0.2, 0.0, 0.1], [0.2, 0.0, 0.0]])
    np.testing.assert_allclose(workspace.outside(points), [0.0, 0.02, 0.0, 0.02], atol=1e-12)
