# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests share: the golden set, and policies loaded once."""

import pytest
import torch
from golden_set import GOLDEN, Golden, textured

from molmoact2_model import MolmoAct2Policy


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The networks are too small for more, and on a busy machine threads wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden():
    return Golden(GOLDEN)


@pytest.fixture(scope="session")
def policy(golden):
    return MolmoAct2Policy.from_pretrained(golden.checkpoint)


@pytest.fixture
def alone(policy):
    """Makes servers of a test's own."""
    from served import Served

    made = []

    def make(**options):
        made.append(Served(policy, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def scene():
    return textured()
