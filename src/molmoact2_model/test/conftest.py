# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests share: the golden set, and policies loaded once."""

import sys
from pathlib import Path

import pytest
import torch

# Test modules are imported by path, so their helpers have to be found.
sys.path.insert(0, str(Path(__file__).parent))

from golden_set import GOLDEN, Golden, textured  # noqa: E402

from molmoact2_model import MolmoAct2Policy  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def few_threads():
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def golden():
    return Golden(GOLDEN)


@pytest.fixture(scope="session")
def policy(golden):
    return MolmoAct2Policy.from_pretrained(golden.checkpoint)


@pytest.fixture
def scene():
    return textured()
