# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the network for one session: prefill, depth codes, discrete actions, flow.

optimizations.py has a switch for each thing done here for speed alone. What is not computed twice:

* The key/value cache is preallocated and reused from call to call.
* Images come first in the prompt and every image token sees all others, so a new frame invalidates all keys
  and values but the first token's. When all frames repeat byte for byte (a quiet simulator), their features
  are reused, and the prefill up to the first token id that differs. Frames are reused all or none, so that a
  result never depends on how many of them were new.
* Per chunk, the expert's cross-attention context is projected once; what depends on the flow time alone is
  computed once per number of steps and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .checkpoint import Network
from .compiled import CompiledExpert
from .drafting import Drafting
from .engine_options import EULER
from .errors import DecodeError, ModelError
from .expert import DepthGate, KeyValues, depth_tokens, gated
from .flow_runner import FlowRunner
from .fused_language import Buffers
from .fused_network import Fused, fuse
from .graphs import CodeSteps, PromptGraphs
from .guidance import Guidance
from .images import ImageConfig
from .optimizations import SHARED, Optimizations
from .processing import Prompt, pixel_values, pooling_index
from .results import DepthOutcome
from .think import runs
from .visibility import visible_to_expert
from .vlm import KVCache

# How many tokens may follow the depth codes before <depth_end>, and per waypoint of a discrete chunk (spec 5
# and 6.2).
MIN_DEPTH_END_STEPS = 8
DISCRETE_STEPS_PER_WAYPOINT = 16


class Engine:
    """One session's view of a network. Not thread-safe; the weights may be shared between engines.

    steps: how many steps of decoding came after the prefill; passes: in how many passes of the language model;
    tokens_read: how many tokens these read.
    """

    def __init__(
        self,
        network: Network,
        images: ImageConfig,
        optimizations: Optimizations = SHARED,
        fused: Fused | None = None,
    ) -> None:
        """fused: of this network, what another engine fused already."""
        self.network, self._images, self._optimizations = network, images, optimizations
        self.fused = fuse(network, optimizations, fused or Fused())
        self._language = self.fused.language if optimizations.fused_language else None
        self.expert = self.fused.expert_of(network, optimizations)
        self.steps = self.passes = self.tokens_read = 0
        # Is shown the logits (k, codebook) that codes are chosen by; not those of a recorded step.
        self.scored: Callable[[torch.Tensor], object] | None = None
        text = network.config.text
        self._cache: KVCache | Buffers = KVCache(text.num_layers, optimizations.fixed_cache)
        if self._language is not None:
            self._cache = Buffers(text, network.device, network.dtype)
        self._ids: list[int] = []
        self._waiting: list[torch.Tensor] = []    # ids that are known to come next and are not read yet
        self._hidden = torch.empty(0)
        self._code_steps: CodeSteps | None = None
        self._prompts: PromptGraphs | None = None
        if optimizations.graphs and self._language is not None and isinstance(self._cache, Buffers):
            self._prompts = PromptGraphs(self._language, self._cache)
        self._flow = None if self.expert is None else FlowRunner(self.expert, network.device, optimizations)
        self._forget_frames()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not done that was asked for, and why."""
        remark = self.expert.remark if isinstance(self.expert, CompiledExpert) else ""
        return (remark,) if remark else ()

    def _forget_frames(self) -> None:
        self._frames: list[np.ndarray] = []
        self._looked_at: list[torch.Tensor] = []    # features of each frame
        self._features = torch.empty(0)
        self._prefilled: tuple[np.ndarray, torch.Tensor] | None = None

    def forget(self) -> None:
        """After a call that failed: nothing that it left is used again."""
        self._forget_frames()
        if isinstance(self._cache, Buffers):
            self._cache.wipe()

    @property
    def ids(self) -> np.ndarray:
        """int64 (S,): the ids in the cache, prompt and generated."""
        return np.asarray(self._ids, dtype=np.int64)

    # --- language model -----------------------------------------------------------------------------------
    @torch.no_grad()
    def see(self, images: Sequence[np.ndarray]) -> None:
        """Computes the image features, (tokens of all images, hidden), unless every frame is the last call's."""
        frames, looked_at = self._frames, self._looked_at
        repeats = [len(frames) > place and np.array_equal(frames[place], image) for place, image in enumerate(images)]
        if self._optimizations.reuse and len(images) == len(frames) and all(repeats):
            return
        self._forget_frames()
        if self._optimizations.reuse_cameras:
            for place, image in enumerate(images):
                self._looked_at.append(looked_at[place] if repeats[place] else self._look([image])[0])
        else:
            self._looked_at = self._look(images)
        self._features = torch.cat(self._looked_at)
        self._frames = [image.copy() for image in images]

    def _look(self, images: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """The features of each image (tokens, hidden)."""
        device = self.network.device
        pixels = pixel_values(images, self._images, device).to(self.network.dtype)
        grid = torch.tensor([[*self._images.token_grid, 0, 0]] * len(images), device=device)
        pooling = pooling_index(self._images, len(images)).to(device)
        return list(self.network.vlm.model.get_image_features(pixels, pooling, grid).pooler_output)

    @torch.no_grad()
    def prefill(self, prompt: Prompt, room: int) -> None:
        """Reads the prompt over the images last seen, and reserves space for `room` generated tokens.
        ModelError where the prompt exceeds the positions the model was made for."""
        length = len(prompt.ids)
        limit = self.network.config.text.max_positions
        if length > limit:
            raise ModelError(f"the prompt has {length} tokens, the model has {limit} positions")
        self._ids, self._waiting = prompt.ids.tolist(), []
        self.steps = self.passes = self.tokens_read = 0
        known = self._known_prefix(prompt, length + room)
        if known == length and self._prefilled is not None:
            self._cache.truncate(length)
            self._hidden = self._prefilled[1]
            return
        self._prefilled = None
        if known:
            self._cache.truncate(known)
        else:
            self._reserve(length + room)
        device, model = self.network.device, self.network.vlm.model
        ids = torch.from_numpy(prompt.ids).to(device)
        embeddings = model.language_model.embed_tokens(ids)
        if not known:
            embeddings[ids == self.network.config.image_tokens.patch] += self._features
        is_image = torch.from_numpy(prompt.is_image).to(device)
        position = torch.arange(length, device=device)
        visible = (position[None, :] <= position[:, None]) | (is_image[None, :] & is_image[:, None])
        if self._prompts is not None and not known:
            self._hidden = self._prompts.run(embeddings, visible)
        else:
            self._hidden = self._forward(embeddings[None, known:], visible[None, None, known:])[:, -1]
        self._prefilled = (prompt.ids, self._hidden)

    def _reserve(self, tokens: int) -> None:
        if self._language is not None and isinstance(self._cache, Buffers):
            self._language.reserve(self._cache, tokens)
        else:
            self._cache.reserve(tokens)

    def _known_prefix(self, prompt: Prompt, capacity: int) -> int:
        """How many tokens of the prompt the cache holds as they would be computed now; 0, or at least all images."""
        if self._prefilled is None or capacity > self._cache.capacity or not self._optimizations.reuse:
            return 0
        before = self._prefilled[0]
        shorter = min(len(before), len(prompt.ids))
        differing = np.flatnonzero(before[:shorter] != prompt.ids[:shorter])
        known = int(differing[0]) if differing.size else shorter
        if known == len(prompt.ids) < len(before):
            known -= 1    # the last hidden state is not kept for a part of a prompt
        images_end = int(np.flatnonzero(prompt.is_image)[-1]) + 1
        return known if known >= images_end else 0

    def _next(self, ids: torch.Tensor) -> None:
        """One step of decoding: ids int64 (k,) come next. They are read at once, or with those that follow."""
        self.steps += 1
        self._waiting.append(ids)
        if not self._optimizations.joined_passes:
            self._read()

    def _read(self) -> torch.Tensor:
        """Reads the ids that wait, each seeing all before it; returns the last hidden state (1, hidden)."""
        if self._waiting:
            ids, self._waiting = self._waiting[0] if len(self._waiting) == 1 else torch.cat(self._waiting), []
            self._feed(ids)
        return self._hidden

    def _feed(self, ids: torch.Tensor) -> torch.Tensor:
        """Reads ids int64 (k,) in one pass; returns the hidden states of all of them (k, hidden)."""
        count, past = ids.numel(), self._cache.length
        self.passes, self.tokens_read = self.passes + 1, self.tokens_read + count
        embeddings = self.network.vlm.model.language_model.embed_tokens(ids)
        visible = None
        if count > 1 or self._language is None:
            rows = torch.arange(past, past + count, device=ids.device)
            visible = (torch.arange(past + count, device=ids.device)[None, :] <= rows[:, None])[None, None]
        hidden = self._forward(embeddings[None], visible)
        self._hidden = hidden[:, -1]
        return hidden[0]

    def _forward(self, embeddings: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
        """embeddings (1, k, hidden), visible bool (1, 1, k, S) or None for one token that sees all."""
        if self._language is not None:
            assert isinstance(self._cache, Buffers)
            return self._language(embeddings[0], None if visible is None else visible[0, 0], self._cache)[None]
        past = self._cache.length
        positions = torch.arange(past, past + embeddings.shape[1], device=embeddings.device)[None]
        output = self.network.vlm.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=visible,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        return output.last_hidden_state

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
        codes: list[torch.Tensor] = []
        probs: list[torch.Tensor] = []
        reused_runs = 0
        self._next(torch.tensor([depth.start], device=device))
        for begin, end, generate in runs(refreshed):
            if not generate:
                reused_runs += 1
                codes.append(known[begin:end])
                probs.append(torch.full((end - begin,), float("nan"), device=device))
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
        tail = self._close_depth(depth.end)
        all_codes = torch.cat(codes).cpu().numpy()
        token_ids = [depth.start, *(all_codes + depth.first).tolist(), *tail]
        self._ids += token_ids
        return DepthOutcome(all_codes, torch.cat(probs).float().cpu().numpy(), token_ids, reused_runs)

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
        drafted and verified again (drafting.py). In float32 the codes are the same; in other types kernels of other
        widths may round a close decision the other way (bench/agreement.py counts them).

        draft: int (cells,), e.g. the last call's codes; free: bool (cells,), which codes may change.
        """
        depth = self.network.config.depth
        assert depth is not None
        device, count, begin = self.network.device, draft.size, self._cache.length
        rows = self.network.vlm.lm_head.weight[depth.first : depth.first + depth.codebook_size]
        drafting, probs = Drafting(draft, free), np.full(count, np.nan, np.float32)
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
            self._cache.truncate(begin + drafting.sure)
        probs[~free] = np.nan
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
        raise DecodeError(f"the model did not close its depth codes with <depth_end> within {limit} steps")

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
