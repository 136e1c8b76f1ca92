# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

NAME = "molmoact2_contract"

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
    description="Embodiment contracts and system files of the MolmoAct2 suite, and its command.",
    license="Apache-2.0",
    # Every package adds its subcommands under molmoact2.commands; the value is a function register(subparsers).
    entry_points={"console_scripts": ["molmoact2 = molmoact2_contract.cli:main"]},
)
