# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

NAME = "so101_driver"

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
    description="SO-100 and SO-101 arms (Feetech STS3215 servos) for the MolmoAct2 suite.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["double = so101_driver.double.node:main", "leader = so101_driver.leader_node:main"],
        "molmoact2.commands": [
            "calibrate = so101_driver.commands:register_calibrate",
            "so101 = so101_driver.commands:register_so101",
        ],
        "molmoact2.arm_drivers": ["so101 = so101_driver.driver:create"],
    },
)
