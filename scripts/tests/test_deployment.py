# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is in docker/ is neither built nor run by these tests: they keep it true to the rest of the repository."""

import fnmatch
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
INSTALLED = "/opt/molmoact2/"    # where the images have the repository


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def compose() -> dict:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def default(text: str) -> str:
    """A text of the compose file where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def kept(path: str) -> bool:
    """Whether .dockerignore leaves a path of the repository to the build."""
    parts, ignored = Path(path).parts, False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        names = list(parts) if rule.startswith("**/") else prefixes
        if any(fnmatch.fnmatchcase(name, rule.removeprefix("**/")) for name in names):
            ignored = not line.startswith("!")
    return not ignored


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda f: f.stem)
def test_what_an_image_copies_is_there_and_reaches_the_build(dockerfile):
    copied = [arguments.split()[1:-1] for name, arguments in instructions(dockerfile) if name == "COPY"]
    sources = [source for names in copied for source in names]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source == "." or kept(source), source


def test_what_the_build_scripts_need_reaches_the_build_and_what_is_of_this_machine_does_not():
    for path in ("src/molmoact2_msgs/package.xml", "scripts/build", "scripts/requirements/common.txt", "pip/setup.cfg",
                 "config/systems/so101_sim.yaml", "launch/system.launch.py", "docker/entrypoint.sh", "colcon.meta"):
        assert (ROOT / path).exists() and kept(path), path
    for path in (".git/config", ".venv/bin/python", "install/setup.sh", "out/demo/bag", "scripts/env.sh", "docker/.env",
                 "src/molmoact2_msgs/build.egg-info", "src/hardware_drivers/camera_driver/test/videos.py"):
        assert not kept(path), path


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda f: f.stem)
def test_an_image_is_based_on_jazzy_and_runs_as_no_root(dockerfile):
    found = instructions(dockerfile)
    assert ("ARG", "BASE=ros:jazzy-ros-base-noble") in found
    assert [arguments for name, arguments in found if name == "USER"] == ["${UID}:${GID}"]
    entry = next(arguments for name, arguments in found if name == "ENTRYPOINT")
    assert entry == f'["{INSTALLED}docker/entrypoint.sh"]'
    assert (DOCKER / "entrypoint.sh").stat().st_mode & 0o111


def test_packages_that_an_image_leaves_out_or_skips_exist():
    packages = {ElementTree.parse(f).getroot().findtext("name") for f in ROOT.glob("src/**/package.xml")}
    text = (DOCKER / "robot.Dockerfile").read_text()
    skipped = set(re.search(r'--skip-keys "([^"]*)"', text)[1].split()) - {"rviz2"}
    assert skipped <= packages
    removed = re.findall(r"rm -r (src/\S+)", text)
    assert removed and all((ROOT / path / "package.xml").exists() for path in removed)
    # What is not left out is not made to depend on what is, other than by the keys that are skipped.
    kept_packages = [f for f in ROOT.glob("src/**/package.xml") if "mujoco_driver" not in f.parts and (
        f.parent.name in ("molmoact2_msgs", "molmoact2_contract", "molmoact2_bringup")
        or "hardware_drivers" in f.parts)]
    names = {ElementTree.parse(f).getroot().findtext("name") for f in kept_packages}
    for file in kept_packages:
        needs = {e.text for e in ElementTree.parse(file).getroot().iter("exec_depend")}
        assert needs & packages <= names | skipped, file


def test_versions_for_the_robot_computer_are_pinned_and_within_what_the_workspace_takes():
    lines = (DOCKER / "robot-requirements.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert pinned and all([s.operator for s in r.specifier] == ["=="] for r in pinned)
    common = (ROOT / "scripts/requirements/common.txt").read_text().splitlines()
    taken = {r.name: r for r in (Requirement(line) for line in common if line and not line.startswith("#"))}
    assert "pyrealsense2" in taken
    for requirement in pinned:
        if requirement.name in taken:
            version = next(iter(requirement.specifier)).version
            assert taken[requirement.name].specifier.contains(version), requirement


def test_what_the_robot_computer_gets_from_pip_a_driver_imports():
    lines = (DOCKER / "robot-requirements.txt").read_text().splitlines()
    names = [Requirement(line).name for line in lines if line and not line.startswith("#")]
    modules = {
        "pyserial": "serial",
        "python-can": "can",
        "dreamscale-i2rt": "i2rt",
        "franky-control": "franky",
        "requests": "panda_py",    # which imports both
        "websockets": "panda_py",
    }
    drivers = "\n".join(f.read_text() for f in ROOT.glob("src/hardware_drivers/*/*_driver/**/*.py"))
    for name in names:
        module = modules.get(name, name)
        assert re.search(rf'^\s*(import|from) {module}\b|import_module\("{module}"\)', drivers, re.MULTILINE), name


def test_panda_python_is_nowhere_installed_with_the_numpy_that_it_asks_for():
    """A distribution's compiled packages need the numpy that is theirs."""
    lists = [*(ROOT / "scripts/requirements").glob("*.txt"), DOCKER / "robot-requirements.txt"]
    assert not [file for file in lists if re.search("^panda-python", file.read_text(), re.MULTILINE)]
    programs = (ROOT / "scripts/build", DOCKER / "robot.Dockerfile")
    for line in (line for file in programs for line in file.read_text().splitlines() if "panda-python==" in line):
        assert "--no-deps" in line
    hint = (ROOT / "src/hardware_drivers/franka_driver/franka_driver/panda.py").read_text()
    assert re.search('^INSTALL = f"pip install --no-deps panda-python', hint, re.MULTILINE)


def test_what_commands_write_lies_on_a_volume_that_belongs_to_their_user():
    out = f"{INSTALLED}out"
    for name, service in compose()["services"].items():
        assert service["read_only"]
        assert [default(v) for v in service["volumes"] if out in v] == [f"molmoact2-out:{out}"], name
        dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
        made = re.search(r'install -d -o "\$\{UID\}" -g "\$\{GID\}" (.*)', dockerfile)[1].split()
        assert out in made, name
    assert "molmoact2-out" in compose()["volumes"]


def test_services_share_what_keeps_them_apart_from_the_network_and_from_root():
    for name, service in compose()["services"].items():
        environment = {key: default(value) for key, value in service["environment"].items() if isinstance(value, str)}
        assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST", name
        profile = environment["FASTRTPS_DEFAULT_PROFILES_FILE"].removeprefix(INSTALLED)
        assert profile == "docker/fastdds/same_host.xml" and (ROOT / profile).exists()
        assert not service.get("privileged") and service["cap_drop"] == ["ALL"] and "user" not in service
        assert service["network_mode"] == "host" and service["restart"] == "no" and "ports" not in service
        assert (ROOT / service["build"]["dockerfile"]).exists()


def test_what_the_workstation_starts_by_itself_is_a_system_that_exists():
    command = [default(part) for part in compose()["services"]["workstation"]["command"]]
    assert command[:2] == ["molmoact2", "up"]
    assert (ROOT / f"config/systems/{command[2]}.yaml").exists()
    robot = compose()["services"]["robot"]["command"]
    assert (ROOT / "launch" / robot[3]).exists() and robot[4].startswith("system:=${ROBOT_SYSTEM:?")


def test_systems_that_the_compose_file_gives_as_examples_exist_and_divide_one_robot():
    text = (DOCKER / "compose.yaml").read_text()
    names = re.findall(r"^#\s+(?:ROBOT|WORKSTATION)_SYSTEM=(\w+)", text, re.MULTILINE)
    systems = [yaml.safe_load((ROOT / f"config/systems/{name}.yaml").read_text()) for name in names]
    robot, policy = systems
    assert robot["contract"] == policy["contract"]
    whole = yaml.safe_load((ROOT / f"config/systems/{robot['contract']}.yaml").read_text())["processes"]
    cameras = {name for name, p in robot["processes"].items() if p["executable"] == "camera"}
    assert set(robot["processes"]) - cameras | set(policy["processes"]) == {n for n in whole if "camera" not in n}
    assert not robot["simulation"] and robot["processes"]["arm_controller"]["parameters"]["shadow"] is True


def test_a_robot_may_have_the_priority_that_its_drivers_ask_for_and_finds_what_is_mounted():
    robot = compose()["services"]["robot"]
    session = ROOT / "src/hardware_drivers/franka_driver/franka_driver/session.py"
    asked = re.findall(r"rtprio (\d+)", session.read_text())
    assert [str(robot["ulimits"]["rtprio"])] == asked
    assert f"rtprio {asked[0]}`" in (ROOT / "docs/deployment.md").read_text()
    root = robot["environment"]["MOLMOACT2_ROOT"]
    assert any(volume.split(":")[-2] == f"{root}/config" for volume in robot["volumes"])


def test_the_service_starts_a_service_of_the_compose_file_that_exists():
    unit = (DOCKER / "systemd/molmoact2-robot.service").read_text()
    for key in ("ExecStart", "ExecStop"):
        line = re.search(rf"^{key}=(.*)$", unit, re.MULTILINE)[1]
        assert (ROOT / re.search(r"--file (\S+)", line)[1]).exists()
        assert line.split()[-1] in compose()["services"]
    assert "Restart=no" in unit


@pytest.mark.parametrize("file", sorted((DOCKER / "fastdds").glob("*.xml")), ids=lambda f: f.stem)
def test_a_middleware_profile_uses_the_transports_that_it_declares_and_no_other(file):
    space = "{http://www.eprosima.com}"
    root = ElementTree.parse(file).getroot()
    declared = [e.text for e in root.findall(f".//{space}transport_descriptor/{space}transport_id")]
    used = [e.text for e in root.findall(f".//{space}userTransports/{space}transport_id")]
    assert sorted(declared) == sorted(used) and len(used) == 2
    assert root.find(f".//{space}useBuiltinTransports").text == "false"
    assert root.find(f".//{space}participant").get("is_default_profile") == "true"


def topics_of_architecture() -> str:
    return (ROOT / "docs/architecture.md").read_text()


def test_the_security_policy_names_nodes_topics_and_services_that_the_architecture_lists():
    text = topics_of_architecture()
    root = ElementTree.parse(DOCKER / "sros2/so101_policy.xml").getroot()
    of_ros = {"rosout", "clock", "parameter_events"}
    for kind in ("topic", "service", "action"):
        for name in {e.text for e in root.iter(kind)}:
            every_nodes = name.startswith("~/") or name.endswith("/get_parameters")
            if name in of_ros or every_nodes or name.startswith("policy/") and name.endswith("_state"):
                continue
            last = name.rsplit("/", 1)[-1]
            written = (name, f"<arm>/{last}", f"<camera>/{last}", f"/{name}", f"`{last}`")
            group = "policy/*" if name.startswith("policy/") else ""
            assert any(w in text for w in written) or (group and group in text), f"{kind} {name}"


def test_only_the_policy_sends_chunks_and_only_an_operator_arms():
    root = ElementTree.parse(DOCKER / "sros2/so101_policy.xml").getroot()

    def allowed(list_name: str, right: str, name: str) -> set[str]:
        return {
            profile.get("node")
            for profile in root.iter("profile")
            for group in profile.findall(list_name)
            if group.get(right) == "ALLOW" and name in [e.text for e in group]
        }

    assert allowed("topics", "publish", "policy/action_chunk") == {"policy"}
    assert allowed("services", "request", "arm/stop") == {"policy", "operator"}
    for service in ("arm", "resume", "clear_fault", "home", "park"):
        assert allowed("services", "request", f"arm/{service}") == {"operator"}
    assert allowed("topics", "publish", "joint_states") == allowed("services", "reply", "arm/arm") == {"arm_controller"}


UDEV_LINE = re.compile(
    r'^(LABEL="\w+"|([A-Z]+(\{[\w/]+\})?(==|!=|\+=|=|:=)"[^"]*")(, [A-Z]+(\{[\w/]+\})?(==|!=|\+=|=|:=)"[^"]*")*)$'
)


@pytest.mark.parametrize("file", sorted((DOCKER / "udev").glob("*.rules")), ids=lambda f: f.stem)
def test_device_rules_are_well_formed_and_jump_only_to_labels_that_are_there(file):
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert UDEV_LINE.match(line), line
    text = "\n".join(lines)
    assert set(re.findall(r'GOTO="(\w+)"', text)) <= set(re.findall(r'LABEL="(\w+)"', text))
    # Rights of whoever sits at the machine are given at 73: rules that ask for them come before.
    assert int(file.name[:2]) < 73


def test_shell_scripts_of_the_images_are_valid():
    subprocess.run(["bash", "-n", str(DOCKER / "entrypoint.sh")], check=True)


def test_error_messages_and_docs_name_files_of_this_folder_that_exist():
    texts = [*ROOT.glob("src/hardware_drivers/*/*/*.py"), ROOT / "docs/deployment.md", ROOT / "docs/cameras.md"]
    named = {name.rstrip(".") for file in texts for name in re.findall(r"docker/[\w./-]+", file.read_text())}
    assert "docker/.env" in named
    named.remove("docker/.env")    # which its reader makes
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
