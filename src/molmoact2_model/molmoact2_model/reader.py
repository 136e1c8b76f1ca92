# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reads images, prompts and tokens of one session into its key/value cache.

optimizations.py has a switch for each thing done here for speed alone. What is not computed twice:

* The cache is preallocated and reused from call to call.
* Images come first in the prompt and every image token sees all others, so a new frame invalidates all keys
  and values but the first token's. When all frames repeat byte for byte (a quiet simulator), their features
  are reused, and the prefill up to the first token id that differs. Frames are reused all or none, so that a
  result never depends on how many of them were new.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .checkpoint import Network
from .errors import ModelError
from .fused_language import Buffers
from .fused_network import Fused, fuse
from .graphs import PromptGraphs
from .images import ImageConfig
from .optimizations import Optimizations
from .processing import Prompt, pixel_values, pooling_index
from .vlm import KVCache


class Reader:
    """One session's view of a network's eyes and language model. Not thread-safe; the weights may be shared.

    steps: how many steps of decoding came after the prefill; passes: in how many passes of the language model;
    tokens_read: how many tokens these read.
    """

    def __init__(
        self, network: Network, images: ImageConfig, optimizations: Optimizations, fused: Fused | None = None
    ) -> None:
        """fused: of this network, what another session fused already."""
        self.network, self._images, self._optimizations = network, images, optimizations
        self.fused = fuse(network, optimizations, fused or Fused())
        self._language = self.fused.language if optimizations.fused_language else None
        self.steps = self.passes = self.tokens_read = 0
        text = network.config.text
        self._cache: KVCache | Buffers = KVCache(text.num_layers, optimizations.fixed_cache)
        if self._language is not None:
            self._cache = Buffers(text, network.device, network.dtype)
        self._ids: list[int] = []
        self._waiting: list[torch.Tensor] = []    # ids that are known to come next and are not read yet
        self._hidden = torch.empty(0)
        self._prompts: PromptGraphs | None = None
        if optimizations.graphs and self._language is not None and isinstance(self._cache, Buffers):
            self._prompts = PromptGraphs(self._language, self._cache)
        self._forget_frames()

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
        if self._optimizations.reuse or self._optimizations.reuse_cameras:
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
