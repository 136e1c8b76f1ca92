# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

NAME = "yam_driver"

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
    description="I2RT YAM arms for the MolmoAct2 suite, and a double of their motors.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["double = yam_driver.double.node:main"],
        "molmoact2.commands": ["yam = yam_driver.command:register"],
        "molmoact2.arm_drivers": ["yam = yam_driver.driver:create"],
    },
)
