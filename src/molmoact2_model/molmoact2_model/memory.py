# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What memory there is for a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch


def free_memory(device: str) -> tuple[int, str]:
    """Bytes that are free for a checkpoint, and of what. device: a torch device. Errors: RuntimeError."""
    if torch.device(device).type == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError(f"device {device} is asked for, and torch {torch.__version__} sees no GPU")
        free, total = torch.cuda.mem_get_info(torch.device(device))
        return free, f"{torch.cuda.get_device_name(torch.device(device))} ({total / 1e9:.1f} GB)"
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024, "main memory"
    raise RuntimeError("/proc/meminfo does not say how much memory is available")


def idle_gpu(device: str) -> str:
    """Name of a GPU that is there and not used; empty where there is none."""
    if torch.device(device).type == "cuda" or not torch.cuda.is_available():
        return ""
    return torch.cuda.get_device_name(0)
