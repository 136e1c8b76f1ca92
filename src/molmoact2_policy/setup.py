# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

NAME = "molmoact2_policy"

setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The MolmoAct2 ROS 2 authors",
    maintainer_email="maintainers@molmoact2-ros2.invalid",
    description="ROS 2 nodes around the MolmoAct2 engine.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "policy = molmoact2_policy.node:main",
            "scripted_policy = molmoact2_policy.scripted.node:main",
            "recorder = molmoact2_policy.bags.node:main",
            "visualizer = molmoact2_policy.view.node:main",
        ],
        "molmoact2.commands": [
            "replay = molmoact2_policy.replay.command:register",
            "convert = molmoact2_policy.datasets.command:register",
            "depth-study = molmoact2_policy.study.command:register",
        ],
    },
)
