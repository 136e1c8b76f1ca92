# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which parts of a network are computed fused."""

from __future__ import annotations

from dataclasses import dataclass

from .checkpoint import Network
from .compiled import CompiledExpert
from .engine_options import NO_OFFLOAD
from .flow import Expert
from .fused_expert import FusedExpert
from .fused_language import FusedLanguage, fits
from .optimizations import Optimizations


@dataclass(frozen=True)
class Fused:
    """The parts that are; None: as they come. May be shared between engines."""

    language: FusedLanguage | None = None
    expert: FusedExpert | None = None
    compiled: CompiledExpert | None = None

    def expert_of(self, network: Network, wanted: Optimizations) -> Expert | None:
        """What computes the network's expert with these; None where it has none."""
        if not wanted.fused_expert or self.expert is None:
            return network.expert
        return self.compiled if wanted.compiled and self.compiled is not None else self.expert


def fuse(network: Network, wanted: Optimizations, known: Fused) -> Fused:
    """What is known of this network, and what else is wanted and can be. Its parameters become views (fused.join)."""
    language, expert, compiled = known.language, known.expert, known.compiled
    if language is None and wanted.fused_language and fits(network.config.text):
        offload = network.offload != NO_OFFLOAD
        language = FusedLanguage(network.vlm.model.language_model, network.config.text, offload)
    if expert is None and wanted.fused_expert and network.expert is not None:
        expert = FusedExpert(network.expert)
    if compiled is None and wanted.compiled and expert is not None:
        compiled = CompiledExpert(expert)
    return Fused(language, expert, compiled)
