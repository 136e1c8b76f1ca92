# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = "molmoact2_model"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=[
        "setuptools",
        "numpy",
        "pillow",
        "pyyaml",
        "scipy",
        "tensorboard",
        "torch",
        "tqdm",
        "transformers>=5.23,<5.24",
        "tokenizers",
        "safetensors>=0.4.5",
        "huggingface-hub",
        "starlette>=1.0,<2",
        "uvicorn>=0.40,<1",
        "prometheus-client>=0.20,<1",
        "h11>=0.16,<0.17",
    ],
    extras_require={"quantized": ["bitsandbytes>=0.50,<0.51"]},
    zip_safe=True,
    maintainer="The MolmoAct2 ROS 2 authors",
    maintainer_email="maintainers@molmoact2-ros2.invalid",
    description="The MolmoAct2 model as a Python library; no ROS.",
    license="Apache-2.0",
    entry_points={
        "molmoact2.commands": [
            "infer = molmoact2_model.infer_command:register",
            "serve = molmoact2_model.serving.command:register",
            "train = molmoact2_model.training.command:register",
            "fast = molmoact2_model.training.fast_command:register",
            "depth = molmoact2_model.training.depth_command:register",
            "bench-model = molmoact2_model.bench.command:register",
        ],
    },
)
