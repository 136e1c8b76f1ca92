# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Trains with two processes as torchrun would start them, but forked from one that has loaded the libraries: that is
most of what a short run takes. Run as a program, in which nothing has computed yet: python two_processes.py RECIPE OUT.

OUT/cut is a run whose second process is interrupted after the first save; it is continued for two steps. OUT/whole is
the same run in one go."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from test_training import train

from molmoact2_contract.cli import build_parser

STATE = "state.safetensors"
PATIENCE = 120    # seconds


def started(recipe: Path, out: Path, *more: str) -> list[int]:
    """Process ids by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sys.stdout.flush()
    pids = []
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            code = train(recipe, out, "--threads", "1", "--device", "cpu", *more)
            sys.stdout.flush()
            os._exit(code)
        pids.append(pid)
    return pids


def ended(pids: list[int]) -> list[int]:
    """Exit statuses by rank."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def step_of(out: Path) -> int:
    with safe_open(out / STATE, framework="pt") as file:
        return int(file.metadata()["step"])


def run(recipe: Path, out: Path) -> None:
    cut, deadline = started(recipe, out / "cut"), time.monotonic() + PATIENCE
    while not (out / "cut" / STATE).is_file():
        assert os.waitpid(-1, os.WNOHANG) == (0, 0) and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(cut[1], signal.SIGINT)
    assert ended(cut) == [130, 130]
    step = step_of(out / "cut")
    assert f"Step {step} of" in (out / "cut/checkpoint/README.md").read_text()
    assert ended(started(recipe, out / "cut", "--resume", "--until", str(step + 2))) == [0, 0]
    assert ended(started(recipe, out / "whole", "--until", str(step + 2))) == [0, 0]
    assert step_of(out / "cut") == step_of(out / "whole") == step + 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    build_parser()    # loads what the command loads
    run(Path(sys.argv[1]), Path(sys.argv[2]))
