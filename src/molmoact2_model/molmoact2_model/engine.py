# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the network for one session: what it reads (reader.py), depth codes, discrete actions, flow.

Per chunk, the expert's cross-attention context is projected once; what depends on the flow time alone is computed once
per number of steps and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .checkpoint import Network
from .compiled import CompiledExpert
from .drafting import SPARE, SPARE_AFTER_LOSS, TOKEN_COST, Budget, Drafting
from .engine_options import EULER
from .errors import DecodeError
from .expert import DepthGate, KeyValues, depth_tokens, gated
from .flow_runner import FlowRunner
from .fused_language import Buffers
from .fused_network import Fused
from .graphs import CodeSteps
from .guidance import Guidance
from .images import ImageConfig
from .optimizations import SHARED, Optimizations
from .reader import Reader
from .results import DepthOutcome
from .think import runs
from .visibility import visible_to_expert

# How many tokens may follow the depth codes before <depth_end>, and per waypoint of a discrete chunk (spec 5
# and 6.2).
MIN_DEPTH_END_STEPS = 8
DISCRETE_STEPS_PER_WAYPOINT = 16


class Engine(Reader):
    """All that one session asks of a network. Not thread-safe; the weights may be shared between engines."""

    def __init__(
        self,
        network: Network,
        images: ImageConfig,
        optimizations: Optimizations = SHARED,
        fused: Fused | None = None,
    ) -> None:
        """fused: of this network, what another engine fused already."""
        super().__init__(network, images, optimizations, fused)
        self.expert = self.fused.expert_of(network, optimizations)
        # Is shown the logits (k, codebook) that codes are chosen by; not those of a recorded step.
        self.scored: Callable[[torch.Tensor], object] | None = None
        self._code_steps: CodeSteps | None = None
        self._draft_spare = SPARE    # by how the last draft fared since codes were generated without one
        self._flow = None if self.expert is None else FlowRunner(self.expert, network.device, optimizations)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not done that was asked for, and why."""
        remark = self.expert.remark if isinstance(self.expert, CompiledExpert) else ""
        return (remark,) if remark else ()

    @torch.no_grad()
    def generate(self, end: int, max_steps: int) -> list[int]:
        """Greedy decoding until `end`, which is returned but not fed. DecodeError when it does not come."""
        generated: list[int] = []
        for _ in range(max_steps):
            token = self.network.vlm.lm_head(self._read()).argmax(dim=-1)
            generated.append(int(token))
            if generated[-1] == end:
                return generated
            self._next(token)
        raise DecodeError(
            f"the model did not end its actions (token {end}) within {max_steps} steps; no action was decoded"
        )

    @torch.no_grad()
    def depth(self, refreshed: np.ndarray, known_codes: np.ndarray | None) -> DepthOutcome:
        """Generates the codes marked in `refreshed` bool (cells,) one by one and replays the `known_codes` of
        the others, each run of them in one forward pass; then decodes freely until <depth_end>."""
        depth = self.network.config.depth
        assert depth is not None
        device = self.network.device
        rows = self.network.vlm.lm_head.weight[depth.first : depth.first + depth.codebook_size]
        known = torch.zeros(refreshed.size, dtype=torch.long, device=device)
        if known_codes is not None:
            known = torch.from_numpy(known_codes.astype(np.int64)).to(device)
        self._draft_spare = SPARE
        self._next(torch.tensor([depth.start], device=device))
        found, probs, reused_runs = self._one_by_one(refreshed, known, rows)
        tail = self._close_depth(depth.end)
        codes = found.cpu().numpy()
        token_ids = [depth.start, *(codes + depth.first).tolist(), *tail]
        self._ids += token_ids
        return DepthOutcome(codes, probs.float().cpu().numpy(), token_ids, reused_runs)

    def _one_by_one(
        self, refreshed: np.ndarray, known: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The codes that follow what is read or waits, their probabilities, not a number where they are known, and
        how many runs of them were."""
        depth = self.network.config.depth
        assert depth is not None
        codes: list[torch.Tensor] = []
        probs: list[torch.Tensor] = []
        reused_runs = 0
        for begin, end, generate in runs(refreshed):
            if not generate:
                reused_runs += 1
                codes.append(known[begin:end])
                probs.append(torch.full((end - begin,), float("nan"), device=known.device))
                self._next(known[begin:end] + depth.first)
                continue
            graphed = self._graphed(rows, depth.first) if end - begin > 1 else None
            ahead = 0 if graphed is None else end - begin - 1
            for _ in range(end - begin - ahead):
                code, prob = self._choose(self._read(), rows)
                codes.append(code)
                probs.append(prob)
                self._next(code + depth.first)
            if graphed is not None:
                more, found = graphed.run(codes[-1], ahead)
                codes, probs, self._waiting = [*codes, more], [*probs, found], [more[-1:] + depth.first]
                self.steps, self.passes = self.steps + ahead, self.passes + ahead
                self.tokens_read += ahead
        return torch.cat(codes), torch.cat(probs), reused_runs

    def _choose(self, hidden: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (k, hidden) -> at each the code whose row of the head scores highest, int64 (k,), and its
        probability over the codebook (k,)."""
        scores = functional.linear(hidden, rows)
        codes = scores.argmax(dim=-1)
        if self.scored is not None:
            self.scored(scores)
        return codes, scores.float().softmax(dim=-1).gather(-1, codes[:, None])[:, 0]

    def _graphed(self, rows: torch.Tensor, first: int) -> CodeSteps | None:
        """What generates codes by a recorded step, where that is wanted and there is fused language."""
        cache, options = self._cache, self._optimizations
        if not (options.graphs and options.joined_passes) or self._language is None or not isinstance(cache, Buffers):
            return None
        if self._code_steps is None or not self._code_steps.holds(cache):
            embed = self.network.vlm.model.language_model.embed_tokens
            self._code_steps = CodeSteps(self._language, embed, rows, first, cache)
        return self._code_steps

    @torch.no_grad()
    def verify_depth(self, draft: np.ndarray, free: np.ndarray) -> DepthOutcome:
        """What `depth(free, draft)` generates, by draft and verify: one pass over all codes says what the model would
        have chosen at each; what is right up to the first that differs stays, that one is replaced, and the rest is
        drafted and verified again, or generated one by one where that is sooner done (drafting.py). In float32 the
        codes are the same; in other types kernels of other widths may round a close decision the other way
        (bench/agreement.py counts them).

        draft: int (cells,), e.g. the last call's codes; free: bool (cells,), which codes may change.
        """
        depth = self.network.config.depth
        assert depth is not None
        device, count, begin = self.network.device, draft.size, self._cache.length
        rows = self.network.vlm.lm_head.weight[depth.first : depth.first + depth.codebook_size]
        drafting, probs = Drafting(draft, free), np.full(count, np.nan, np.float32)
        budget, tail = Budget(free, TOKEN_COST.get(device.type, 0.0), self._draft_spare), None
        self._draft_spare = SPARE
        while True:
            sure = drafting.sure
            drafted = [depth.end] if self._optimizations.joined_passes else []
            tokens = np.concatenate([[depth.start], drafting.codes + depth.first, drafted]).astype(np.int64)[sure:]
            self.steps += 1
            hidden = self._feed(torch.from_numpy(tokens).to(device))
            chosen, found = self._choose(hidden[: count - sure], rows)
            kept = drafting.verify(chosen.cpu().numpy())
            # Up to and with the first that differed, the model chose from what it will be conditioned on.
            probs[sure : drafting.sure] = found.cpu().numpy()[: drafting.sure - sure]
            if kept:
                break
            sure = drafting.sure
            self._cache.truncate(begin + sure)
            if sure < count and not budget.lasts(len(tokens), sure):
                self._draft_spare = SPARE_AFTER_LOSS
                codes = torch.from_numpy(drafting.codes).to(device)
                self._next(codes[sure - 1 : sure] + depth.first)
                rest, found, _ = self._one_by_one(free[sure:], torch.from_numpy(draft[sure:]).to(codes), rows)
                drafting.codes[sure:], probs[sure:] = rest.cpu().numpy(), found.cpu().numpy()
                tail = self._close_depth(depth.end)
                break
        probs[~free] = np.nan
        if tail is None:
            tail = self._drafted_end(hidden, depth.end) if drafted else self._close_depth(depth.end)
        token_ids = [depth.start, *(drafting.codes + depth.first).tolist(), *tail]
        self._ids += token_ids
        return DepthOutcome(drafting.codes, probs, token_ids, 0)

    def _close_depth(self, end: int) -> list[int]:
        """Every token up to <depth_end>, which is read as well: the actions are conditioned on it."""
        if self._waiting:    # the end, which nearly always follows the last code, is read with it
            self._waiting.append(torch.tensor([end], device=self.network.device))
            ids, self._waiting = torch.cat(self._waiting), []
            return self._drafted_end(self._feed(ids), end)
        limit = max(MIN_DEPTH_END_STEPS, self.network.config.max_action_horizon)
        emitted: list[int] = []
        for _ in range(limit):
            token = self.network.vlm.lm_head(self._hidden).argmax(dim=-1)
            emitted.append(int(token))
            self.steps += 1
            self._feed(token)
            if emitted[-1] == end:
                return emitted
        raise DecodeError(
            f"the model did not close its depth codes with <depth_end> within {limit} steps; where it never does, it "
            "has not learnt them: depth must be off"
        )

    def _drafted_end(self, hidden: torch.Tensor, end: int) -> list[int]:
        """As `_close_depth`, where <depth_end> was read already without being asked for. hidden (k, hidden): of it
        and what came before it."""
        if int(self.network.vlm.lm_head(hidden[-2:-1]).argmax(dim=-1)) == end:
            self.steps += 1
            return [end]
        self._cache.truncate(self._cache.length - 1)
        self._hidden = hidden[-2:-1]
        return self._close_depth(end)

    def room(self, depth: bool, discrete_horizon: int) -> int:
        """How many tokens may follow a prompt, with depth codes or not, and a discrete chunk of that many waypoints."""
        config, room = self.network.config, discrete_horizon * DISCRETE_STEPS_PER_WAYPOINT
        if depth and config.depth is not None:
            room += 1 + config.depth.num_codes + max(MIN_DEPTH_END_STEPS, config.max_action_horizon)
        return room

    # --- action expert ------------------------------------------------------------------------------------
    @torch.no_grad()
    def flow(
        self,
        noise: np.ndarray,
        action_dim: int,
        num_steps: int,
        guidance: Guidance | None = None,
        solver: str = EULER,
    ) -> np.ndarray:
        """Noise float32 (T, max_action_dim) -> actions float32 (T, action_dim) in the model's range,
        conditioned on all that the cache holds, and drawn towards the running chunk where there is guidance."""
        network = self.network
        assert self._flow is not None
        start = torch.from_numpy(np.ascontiguousarray(noise, dtype=np.float32)).to(network.device)[None]
        dims = action_dim if network.config.mask_action_dim_padding else None
        chunk = self._flow(self.context(), start, dims, num_steps, guidance, solver)
        return chunk[0, :, :action_dim].cpu().numpy()

    def context(self) -> Any:
        """The expert's view of the cache as it is now."""
        network, config = self.network, self.network.config
        assert self.expert is not None
        ids = torch.tensor([self._ids], device=network.device)
        visible = torch.from_numpy(visible_to_expert(self.ids, config)).to(network.device)[None]
        states: KeyValues = self._cache.states()
        if len(network.gates) and config.depth is not None:
            gates = [gate for gate in network.gates if isinstance(gate, DepthGate)]
            states = gated(states, gates, visible, depth_tokens(ids, config))
        return self.expert.context(states, visible)
