# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The flow of one session, with what is kept for it from call to call."""

from __future__ import annotations

from typing import Any

import torch

from .engine_options import EULER
from .flow import Expert, flow_times, sample_flow
from .fused_expert import FusedExpert
from .graphs import FlowGraphs
from .guidance import Guidance
from .optimizations import Optimizations

MOST_MODULATIONS = 4    # numbers of steps whose modulations are kept, those last used


class FlowRunner:
    """Of an expert. Recorded where that is wanted and the expert is the fused one."""

    def __init__(self, expert: Expert, device: torch.device, wanted: Optimizations):
        self._expert, self._device, self._keep = expert, device, wanted.keep_modulations
        self._graphs = FlowGraphs(expert) if wanted.graphs and isinstance(expert, FusedExpert) else None
        self.kept: dict[tuple[int, str], list[Any]] = {}    # modulations

    def __call__(
        self,
        context: Any,
        noise: torch.Tensor,
        dims: int | None,
        num_steps: int,
        guidance: Guidance | None = None,
        solver: str = EULER,
    ) -> torch.Tensor:
        """As of sample_flow; dims: how many of an action's are no padding, None: padding is not held. A chunk that
        continues the running one is never recorded: what it continues is new."""
        valid = None if dims is None else torch.arange(noise.shape[-1], device=self._device) < dims
        modulations = self.modulations(num_steps, solver)
        if self._graphs is not None and guidance is None:
            return self._graphs.run(context, noise, modulations, valid, dims, solver)
        return sample_flow(self._expert, context, noise, modulations, valid, guidance, solver)

    def modulations(self, num_steps: int, solver: str = EULER) -> list[Any]:
        found = self.kept.pop((num_steps, solver), None)
        if found is None:
            times = [torch.full((1,), time, device=self._device) for time in flow_times(num_steps, solver)]
            found = [self._expert.modulations(time) for time in times]
        if self._keep:
            self.kept[num_steps, solver] = found
            while len(self.kept) > MOST_MODULATIONS:
                del self.kept[next(iter(self.kept))]
        return found
