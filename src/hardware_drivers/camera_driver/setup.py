# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

NAME = "camera_driver"

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
    description="RealSense and UVC cameras, video files and folders of images as ROS 2 topics.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["camera = camera_driver.camera_node:main"]},
)
