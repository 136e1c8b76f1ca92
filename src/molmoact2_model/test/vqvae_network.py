# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A small VQ-VAE in the published layout, as torch computes it."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn


class ResBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x):
        return x + self.net(x)


class VqVae(nn.Module):
    """The published layout, smaller: five doublings from 4 channels, two residual blocks, vectors of 24, 12 codes."""

    def __init__(self):
        super().__init__()
        self.codebook = nn.Embedding(12, 24)
        self.register_buffer("embed_avg", torch.zeros(24, 12))
        shrink = [
            layer
            for narrow, wide in ((1, 4), (4, 8), (8, 16), (16, 32), (32, 64))
            for layer in (nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.ReLU())
        ]
        self.encoder = nn.Sequential(*shrink, ResBlock(64), ResBlock(64), nn.Conv2d(64, 24, 1))
        grow = [
            layer
            for wide, narrow in ((64, 64), (64, 32), (32, 16), (16, 8), (8, 4))
            for layer in (nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), nn.ReLU())
        ]
        layers = [nn.Conv2d(24, 64, 1), nn.ReLU(), ResBlock(64), ResBlock(64), *grow, nn.Conv2d(4, 1, 1)]
        self.decoder = nn.Sequential(*layers)


def saved(network, path: Path, change=lambda tensors: tensors) -> Path:
    tensors = change({name: tensor.clone() for name, tensor in network.state_dict().items()})
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path
