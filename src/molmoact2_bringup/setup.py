# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

from setuptools import find_packages, setup

NAME = "molmoact2_bringup"
TOP = Path(__file__).resolve().parents[2]


def relative(path: Path) -> str:
    return os.path.relpath(path, Path(__file__).parent)


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """Data files of a folder at the top of the workspace, installed below this package's share folder."""
    places = []
    for path in sorted((TOP / folder).rglob("*")):
        if path.is_dir() and any(child.is_file() for child in path.iterdir()):
            files = [relative(child) for child in sorted(path.iterdir()) if child.is_file()]
            places.append((f"share/{NAME}/{path.relative_to(TOP)}", files))
    return places


setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", [relative(file) for file in sorted((TOP / "launch").glob("*.py"))]),
        *shared("config"),
        *shared("checkpoints"),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The MolmoAct2 ROS 2 authors",
    maintainer_email="maintainers@molmoact2-ros2.invalid",
    description="Turns a system file of the MolmoAct2 suite into running processes.",
    license="Apache-2.0",
    entry_points={
        "molmoact2.commands": [
            "up = molmoact2_bringup.cli:register_up",
            "demo = molmoact2_bringup.cli:register_demo",
            "bench = molmoact2_bringup.cli:register_bench",
            "faults = molmoact2_bringup.cli:register_faults",
            "check = molmoact2_bringup.check_command:register",
            "task = molmoact2_bringup.cli:register_task",
            "record = molmoact2_bringup.cli:register_record",
            "operate = molmoact2_bringup.operate_command:register_operate",
            "set = molmoact2_bringup.set_command:register",
            "episode = molmoact2_bringup.operate_command:register_episode",
            "view = molmoact2_bringup.cli:register_view",
            "eval = molmoact2_bringup.eval_command:register",
            "corrections = molmoact2_bringup.corrections_command:register",
        ],
        "molmoact2.arm_drivers": ["timed = molmoact2_bringup.bench.timed_driver:create"],
    },
)
