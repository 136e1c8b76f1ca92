# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which parts of a network are computed fused."""

from __future__ import annotations

from dataclasses import dataclass

from .checkpoint import Network
from .engine_options import NO_OFFLOAD
from .fused_expert import FusedExpert
from .fused_language import FusedLanguage, fits
from .optimizations import Optimizations


@dataclass(frozen=True)
class Fused:
    """The parts that are; None: as they come. May be shared between engines."""

    language: FusedLanguage | None = None
    expert: FusedExpert | None = None


def fuse(network: Network, wanted: Optimizations, known: Fused) -> Fused:
    """What is known of this network, and what else is wanted and can be. Its parameters become views (fused.join)."""
    language, expert = known.language, known.expert
    if language is None and wanted.fused_language and fits(network.config.text):
        offload = network.offload != NO_OFFLOAD
        language = FusedLanguage(network.vlm.model.language_model, network.config.text, offload)
    if expert is None and wanted.fused_expert and network.expert is not None:
        expert = FusedExpert(network.expert)
    return Fused(language, expert)
