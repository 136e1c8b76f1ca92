# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

NAME = "ros2_control_driver"

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
    description="Arms behind ros2_control for the MolmoAct2 suite.",
    license="Apache-2.0",
    entry_points={
        "molmoact2.arm_drivers": ["ros2_control = ros2_control_driver.driver:create"],
    },
)
