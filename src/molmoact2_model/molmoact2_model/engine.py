# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the network for one session: prefill, depth codes, discrete actions, flow. The seam for graphs and
other speed.

What is not computed twice:

* The key/value cache is preallocated and reused from call to call.
* Images come first in the prompt and every image token sees all others, so a new frame invalidates all keys
  and values but the first token's. When all frames repeat byte for byte (a quiet simulator), their features
  are reused, and the prefill up to the first token id that differs. Frames are reused all or none, so that a
  result never depends on how many of them were new.
* Per chunk, the expert's cross-attention context is projected once; what depends on the flow time alone is
  computed once per number of steps and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from .checkpoint import Network
from .drafting import Drafting
from .errors import DecodeError, ModelError
from .expert import Context, DepthGate, KeyValues, Modulations, depth_tokens, gated, sample_flow
from .guidance import Guidance
from .images import ImageConfig
from .processing import Prompt, pixel_values, pooling_index
from .think import runs
from .visibility import visible_to_expert
from .vlm import KVCache

# How many tokens may follow the depth codes before <depth_end>, and per waypoint of a discrete chunk (spec 5
# and 6.2).
MIN_DEPTH_END_STEPS = 8
DISCRETE_STEPS_PER_WAYPOINT = 16


@dataclass(frozen=True)
class DepthOutcome:
    """Depth codes and their probabilities (cells,), the generated token ids with start and end, and how many
    runs of reused codes were replayed. A reused code has probability NaN here; the caller knows what it
    was."""

    codes: np.ndarray
    probs: np.ndarray
    token_ids: list[int]
    reused_runs: int


class Engine:
    """One session's view of a network. Not thread-safe; the weights may be shared between engines."""

    def __init__(self, network: Network, images: ImageConfig) -> None:
        self.network, self._images = network, images
        self.steps = 0
        self._cache = KVCache(network.config.text.num_layers)
        self._ids: list[int] = []
        self._hidden = torch.empty(0)
        self._modulations: dict[int, list[Modulations]] = {}
        self._forget_frames()

    def _forget_frames(self) -> None:
        self._frames: list[np.ndarray] = []
        self._features = torch.empty(0)
        self._prefilled: tuple[np.ndarray, torch.Tensor] | None = None

    @property
    def ids(self) -> np.ndarray:
        """int64 (S,): the ids in the cache, prompt and generated."""
        return np.asarray(self._ids, dtype=np.int64)

    # --- language model -----------------------------------------------------------------------------------
    @torch.no_grad()
    def see(self, images: Sequence[np.ndarray]) -> None:
        """Computes the image features, (tokens of all images, hidden), unless every frame is the last call's."""
        same = len(images) == len(self._frames) and all(map(np.array_equal, images, self._frames))
        if same:
            return
        self._forget_frames()
        device = self.network.device
        pixels = pixel_values(images, self._images, device).to(self.network.dtype)
        grid = torch.tensor([[*self._images.token_grid, 0, 0]] * len(images), device=device)
        pooling = pooling_index(self._images, len(images)).to(device)
        features = self.network.vlm.model.get_image_features(pixels, pooling, grid).pooler_output
        self._features = torch.cat(features)
        self._frames = [image.copy() for image in images]

    @torch.no_grad()
    def prefill(self, prompt: Prompt, room: int) -> None:
        """Reads the prompt over the images last seen, and reserves space for `room` generated tokens.
        ModelError where the prompt exceeds the positions the model was made for."""
        length = len(prompt.ids)
        limit = self.network.config.text.max_positions
        if length > limit:
            raise ModelError(f"the prompt has {length} tokens, the model has {limit} positions")
        self._ids, self.steps = prompt.ids.tolist(), 0
        known = self._known_prefix(prompt, length + room)
        if known == length and self._prefilled is not None:
            self._cache.truncate(length)
            self._hidden = self._prefilled[1]
            return
        self._prefilled = None
        if known:
            self._cache.truncate(known)
        else:
            self._cache.reserve(length + room)
        device, model = self.network.device, self.network.vlm.model
        ids = torch.from_numpy(prompt.ids).to(device)
        embeddings = model.language_model.embed_tokens(ids)
        if not known:
            embeddings[ids == self.network.config.image_tokens.patch] += self._features
        is_image = torch.from_numpy(prompt.is_image).to(device)
        position = torch.arange(length, device=device)
        visible = (position[None, :] <= position[:, None]) | (is_image[None, :] & is_image[:, None])
        self._hidden = self._forward(embeddings[None, known:], visible[None, None, known:])[:, -1]
        self._prefilled = (prompt.ids, self._hidden)

    def _known_prefix(self, prompt: Prompt, capacity: int) -> int:
        """How many tokens of the prompt the cache holds as they would be computed now; 0, or at least all images."""
        if self._prefilled is None or capacity > self._cache.capacity:
            return 0
        before = self._prefilled[0]
        shorter = min(len(before), len(prompt.ids))
        differing = np.flatnonzero(before[:shorter] != prompt.ids[:shorter])
        known = int(differing[0]) if differing.size else shorter
        if known == len(prompt.ids) < len(before):
            known -= 1    # the last hidden state is not kept for a part of a prompt
        images_end = int(np.flatnonzero(prompt.is_image)[-1]) + 1
        return known if known >= images_end else 0

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Feeds generated ids int64 (k,), each seeing all before it; returns the last hidden state (1, hidden)."""
        return self._feed(ids)[:, -1]

    def _feed(self, ids: torch.Tensor) -> torch.Tensor:
        """The same, with the hidden states of all of them (1, k, hidden)."""
        self.steps += 1
        count, past = ids.numel(), self._cache.length
        rows = torch.arange(past, past + count, device=ids.device)
        visible = torch.arange(past + count, device=ids.device)[None, :] <= rows[:, None]
        embeddings = self.network.vlm.model.language_model.embed_tokens(ids)
        hidden = self._forward(embeddings[None], visible[None, None])
        self._hidden = hidden[:, -1]
        return hidden

    def _forward(self, embeddings: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
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
            token = self.network.vlm.lm_head(self._hidden).argmax(dim=-1)
            generated.append(int(token))
            if generated[-1] == end:
                return generated
            self.step(token)
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
        hidden = self.step(torch.tensor([depth.start], device=device))
        for begin, end, generate in runs(refreshed):
            if not generate:
                reused_runs += 1
                codes.append(known[begin:end])
                probs.append(torch.full((end - begin,), float("nan"), device=device))
                hidden = self.step(known[begin:end] + depth.first)
                continue
            for _ in range(begin, end):
                scores = functional.linear(hidden, rows)
                code = scores.argmax(dim=-1)
                codes.append(code)
                probs.append(scores.float().softmax(dim=-1).gather(-1, code[:, None])[0])
                hidden = self.step(code + depth.first)
        tail = self._close_depth(depth.end)
        all_codes = torch.cat(codes).cpu().numpy()
        token_ids = [depth.start, *(all_codes + depth.first).tolist(), *tail]
        self._ids += token_ids
        return DepthOutcome(all_codes, torch.cat(probs).float().cpu().numpy(), token_ids, reused_runs)

    @torch.no_grad()
    def verify_depth(self, draft: np.ndarray, free: np.ndarray) -> DepthOutcome:
        """What `depth(free, draft)` generates, by draft and verify: one pass over all codes says what the model would
        have chosen at each; what is right up to the first that differs stays, that one is replaced, and the rest is
        drafted and verified again (drafting.py). In float32 the codes are the same; in other types kernels of other
        widths may round a close decision the other way.

        draft: int (cells,), e.g. the last call's codes; free: bool (cells,), which codes may change.
        """
        depth = self.network.config.depth
        assert depth is not None
        device, count, begin = self.network.device, draft.size, self._cache.length
        rows = self.network.vlm.lm_head.weight[depth.first : depth.first + depth.codebook_size]
        drafting, probs = Drafting(draft, free), np.full(count, np.nan, np.float32)
        while True:
            sure = drafting.sure
            tokens = np.concatenate([[depth.start], drafting.codes + depth.first])[sure:]
            scores = functional.linear(self._feed(torch.from_numpy(tokens).to(device))[0, : count - sure], rows)
            chosen = scores.argmax(dim=-1)
            found = scores.float().softmax(dim=-1).gather(-1, chosen[:, None])[:, 0]
            kept = drafting.verify(chosen.cpu().numpy())
            # Up to and with the first that differed, the model chose from what it will be conditioned on.
            probs[sure : drafting.sure] = found.cpu().numpy()[: drafting.sure - sure]
            if kept:
                break
            self._cache.truncate(begin + drafting.sure)
        probs[~free] = np.nan
        tail = self._close_depth(depth.end)
        token_ids = [depth.start, *(drafting.codes + depth.first).tolist(), *tail]
        self._ids += token_ids
        return DepthOutcome(drafting.codes, probs, token_ids, 0)

    def _close_depth(self, end: int) -> list[int]:
        """Every token up to <depth_end>, which is fed as well: the actions are conditioned on it."""
        limit = max(MIN_DEPTH_END_STEPS, self.network.config.max_action_horizon)
        emitted: list[int] = []
        for _ in range(limit):
            token = self.network.vlm.lm_head(self._hidden).argmax(dim=-1)
            emitted.append(int(token))
            self.step(token)
            if emitted[-1] == end:
                return emitted
        raise DecodeError(f"the model did not close its depth codes with <depth_end> within {limit} steps")

    def room(self, depth: bool, discrete_horizon: int) -> int:
        """How many tokens may follow a prompt, with depth codes or not, and a discrete chunk of that many waypoints."""
        config, room = self.network.config, discrete_horizon * DISCRETE_STEPS_PER_WAYPOINT
        if depth and config.depth is not None:
            room += 1 + config.depth.num_codes + max(MIN_DEPTH_END_STEPS, config.max_action_horizon)
        return room

    # --- action expert ------------------------------------------------------------------------------------
    @torch.no_grad()
    def flow(
        self, noise: np.ndarray, action_dim: int, num_steps: int, guidance: Guidance | None = None
    ) -> np.ndarray:
        """Noise float32 (T, max_action_dim) -> actions float32 (T, action_dim) in the model's range,
        conditioned on all that the cache holds, and drawn towards the running chunk where there is guidance."""
        network = self.network
        assert network.expert is not None
        start = torch.from_numpy(np.ascontiguousarray(noise, dtype=np.float32)).to(network.device)[None]
        valid = None
        if network.config.mask_action_dim_padding:
            valid = torch.arange(network.config.max_action_dim, device=network.device) < action_dim
        modulations = self._flow_modulations(num_steps)
        chunk = sample_flow(network.expert, self.context(), start, modulations, valid, guidance)
        return chunk[0, :, :action_dim].cpu().numpy()

    def context(self) -> Context:
        """The expert's view of the cache as it is now."""
        network, config = self.network, self.network.config
        assert network.expert is not None
        ids = torch.tensor([self._ids], device=network.device)
        visible = torch.from_numpy(visible_to_expert(self.ids, config)).to(network.device)[None]
        states: KeyValues = self._cache.states()
        if len(network.gates) and config.depth is not None:
            gates = [gate for gate in network.gates if isinstance(gate, DepthGate)]
            states = gated(states, gates, visible, depth_tokens(ids, config))
        return network.expert.context(states, visible)

    def _flow_modulations(self, num_steps: int) -> list[Modulations]:
        if num_steps not in self._modulations:
            assert self.network.expert is not None
            times = [
                torch.full((1,), index / num_steps, device=self.network.device) for index in range(num_steps)
            ]
            self._modulations[num_steps] = [self.network.expert.modulations(time) for time in times]
        return self._modulations[num_steps]
