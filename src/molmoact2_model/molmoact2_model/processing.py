# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Images, instruction and state -> what the network reads (spec section 3). No tokenizer code of a checkpoint
is run: its tokenizer.json is data for the `tokenizers` library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from .config import ModelConfig
from .errors import CheckpointError, InputError
from .images import ImageConfig
from .normalization import TagStats

IMAGE_PLACEHOLDER = "<|image|>"

_ACTION_QUESTION = "Given these, what action should the robot take to complete the task?"
_DEPTH_ALONE_QUESTION = "Given these, what is the depth map of the main image?"    # in training only
_DEPTH_QUESTION = (
    "Given these, first predict the depth map of the main image and then predict the action the robot should "
    "take to complete the task?"
)


def pixel_values(images: Sequence[np.ndarray], config: ImageConfig, device: torch.device) -> torch.Tensor:
    """uint8 (H, W, 3) RGB frames -> float32 (n, patches, patch_size * patch_size * 3), patches row-major.

    Each frame is squashed to the model's size (bilinear, no antialiasing), rounded to the 8-bit grid and
    normalised.
    """
    resized = torch.stack([_resize(_shared(image).to(device), config) for image in images])
    mean = torch.tensor(config.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=device).view(1, 3, 1, 1)
    unit = resized / 255.0
    if config.mean == config.std == (0.5, 0.5, 0.5):
        pixels = unit * 2.0 - 1.0
    else:
        # The reference's image transformer reads its input on the 8-bit grid of the range -1..1, whatever the
        # normalisation was; with the released mean and std of one half that changes nothing.
        pixels = torch.round(((unit - mean) / std + 1.0) * 127.5).clamp(0.0, 255.0) / 255.0 * 2.0 - 1.0
    (rows, cols), side = config.patch_grid, config.patch_size
    patches = pixels.reshape(len(images), 3, rows, side, cols, side).permute(0, 2, 4, 3, 5, 1)
    return patches.reshape(len(images), rows * cols, side * side * 3)


def _shared(image: np.ndarray) -> torch.Tensor:
    """A tensor over the frame's own memory, to be read only. What came over a network cannot be written to, of which
    torch.from_numpy warns."""
    if image.flags.writeable:
        return torch.from_numpy(image)
    try:
        return torch.from_dlpack(image)
    except BufferError:    # by numpy 1, which lends none that is read-only
        return torch.from_numpy(image.copy())


def _resize(image: torch.Tensor, config: ImageConfig) -> torch.Tensor:
    channels_first = image.permute(2, 0, 1)[None].float()
    size = (config.height, config.width)
    resized = functional.interpolate(
        channels_first, size, mode="bilinear", align_corners=False, antialias=False
    )
    return resized[0].round().clamp(0.0, 255.0)


def pooling_index(config: ImageConfig, num_images: int) -> torch.Tensor:
    """int64 (num_images * tokens, window): the patches each image token pools, counted over all images; -1 is
    padding."""
    (rows, cols), (high, wide) = config.patch_grid, config.pooling
    token_rows, token_cols = config.token_grid
    pad_rows, pad_cols = token_rows * high - rows, token_cols * wide - cols
    grid = torch.arange(rows * cols).view(rows, cols)
    padding = (pad_cols // 2, pad_cols - pad_cols // 2, pad_rows // 2, pad_rows - pad_rows // 2)
    grid = functional.pad(grid, padding, value=-1)
    windows = grid.view(token_rows, high, token_cols, wide).permute(0, 2, 1, 3).reshape(-1, high * wide)
    offsets = (torch.arange(num_images) * (rows * cols)).view(-1, 1, 1)
    return torch.where(windows[None] >= 0, windows[None] + offsets, -1).reshape(-1, high * wide)


# --- instruction ------------------------------------------------------------------------------------------
_SENTENCE_END = ".,!?;:,…"
_CLOSERS = "\"'”’)]}"
_SURROUNDING = "\"'`“”‘’[](){}"
_PREFIXES = (
    re.compile(r"^(?:task|instruction|language[_ ]instruction|goal)\s*[:\-]\s*", re.IGNORECASE),
    re.compile(r"^(?:the\s+task\s+is\s+to|your\s+task\s+is\s+to)\s+", re.IGNORECASE),
)


def normalize_instruction(text: str) -> str:
    """Brings an instruction to the form the model was trained on: one line, lower case, no quotes, no leading
    "Task:", no closing punctuation, sentences joined by "; " (spec section 3.4)."""
    text = " ".join(text.split())
    before = None
    while text != before:
        before = text
        text = text.strip().strip(_SURROUNDING).strip()
        for prefix in _PREFIXES:
            text = prefix.sub("", text, count=1).strip()
        for ending in (_SENTENCE_END, _CLOSERS, _SENTENCE_END):
            text = text.rstrip(ending).rstrip()
    sentences = [part.strip() for part in re.split(r"[.!?]+", text) if part.strip()]
    return ("; ".join(sentences) if len(sentences) > 1 else text).lower()


def state_bins(normalized: np.ndarray, count: int) -> np.ndarray:
    """float (D,) in the model's range -> int64 (D,) bins 0 .. count - 1; halves round to even."""
    unit = np.clip(normalized.astype(np.float32), -1.0, 1.0)
    return np.rint((unit + np.float32(1.0)) / np.float32(2.0) * np.float32(count - 1)).astype(np.int64)


# --- prompt -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Prompt:
    """One prompt. `text` shows each image as its placeholder; `ids` int64 (S,) has it expanded; `is_image`
    bool (S,) marks the tokens that see each other in both directions."""

    text: str
    ids: np.ndarray
    is_image: np.ndarray


class PromptBuilder:
    """Builds the prompts of one norm tag. What does not change between calls is tokenised once: everything
    around the state tokens depends on instruction, image count and style only."""

    def __init__(self, config: ModelConfig, images: ImageConfig, tokenizer: Tokenizer, tag: TagStats) -> None:
        self._config, self._tokenizer, self._tag = config, tokenizer, tag
        rows, cols = images.token_grid
        tokens = config.image_tokens
        row = [tokens.patch] * cols
        if images.use_col_tokens:
            if tokens.col is None:
                raise CheckpointError(
                    "config.json: image_col_id is missing, but the processor asks for column tokens"
                )
            row.append(tokens.col)
        self._image_ids = [tokens.start, *row * rows, tokens.end]
        self._image_token_ids = np.asarray(tokens.all)
        self._added = set(tokenizer.get_added_tokens_decoder())
        self._pieces = lru_cache(maxsize=64)(self._tokenize_pieces)

    def build(
        self, instruction: str, normalized_state: np.ndarray, num_images: int, depth: bool, action: bool = True
    ) -> Prompt:
        """`instruction` as given by the user; `normalized_state` float32 (D,) in the model's range. depth, action: what
        is asked for, one of them at least. InputError for an instruction that is empty or spells one of the model's
        control tokens."""
        task = self._task(instruction)
        head, tail = self._texts(task, num_images, depth, action)
        head_ids, tail_ids = self._pieces(head, tail)
        state = self._config.state_tokens
        bins = state_bins(normalized_state, state.count)
        ids = np.concatenate([head_ids, [state.start], bins + state.first, [state.end], tail_ids]).astype(
            np.int64
        )
        text = f"{head}<state_start>{''.join(f'<state_{b}>' for b in bins)}<state_end>{tail}"
        return Prompt(text, ids, np.isin(ids, self._image_token_ids))

    def _task(self, instruction: str) -> str:
        if not isinstance(instruction, str):
            raise InputError(f"instruction is a {type(instruction).__name__}, expected a string")
        task = normalize_instruction(instruction)
        if not task:
            raise InputError(f"instruction {instruction!r} says nothing; say what the robot should do")
        for token in self._tokenizer.encode(task, add_special_tokens=False).ids:
            if token in self._added:
                spelled = self._tokenizer.id_to_token(token)
                raise InputError(
                    f"instruction spells the model's control token {spelled!r}; say it in other words"
                )
        return task

    def _texts(self, task: str, num_images: int, depth: bool, action: bool) -> tuple[str, str]:
        """The prompt's text before and after the state tokens."""
        images = _placeholders(num_images)
        setup = _wrapped(self._tag.setup_type, "setup", self._config.add_setup_tokens)
        control = _wrapped(self._tag.control_mode, "control", self._config.add_control_tokens)
        question, trigger = _ACTION_QUESTION, "<action_output>"
        if depth and action:
            question, trigger = _DEPTH_QUESTION, "<depth_output><action_output>"
        elif depth:
            question, trigger = _DEPTH_ALONE_QUESTION, "<depth_output>"
        head = f"The task is to {task}. The setup is {setup}. The current state of the robot is "
        tail = f". The expected control mode is {control}. {question}"
        return f"{images}<|im_start|>user\n{head}", f"{tail}<|im_end|>\n<|im_start|>assistant\n{trigger}"

    def question(self, text: str, num_images: int) -> Prompt:
        """The prompt of a question about images, in the form the vision-language model was trained on."""
        head = f"{_placeholders(num_images)}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        head_ids, _ = self._pieces(head, "")
        return Prompt(head, head_ids, np.isin(head_ids, self._image_token_ids))

    def tokens(self, text: str) -> list[int]:
        """Plain text as tokens. InputError where it spells a control token."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        for token in ids:
            if token in self._added:
                raise InputError(f"{text!r} spells the model's control token {self._tokenizer.id_to_token(token)!r}")
        return ids

    def marks(self, ids: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
        """Two pairs of positions of an action's prompt behind the instruction: where the setup begins and ends, and
        where the state does. InputError for a checkpoint whose prompts do not mark the setup."""
        state = self._config.state_tokens
        edges = [self._tokenizer.token_to_id(f"<setup_{edge}>") for edge in ("start", "end")] + [state.start, state.end]
        found = [np.flatnonzero(ids == edge) for edge in edges]
        if not self._config.add_setup_tokens or any(len(places) == 0 for places in found):
            raise InputError("places need a checkpoint whose prompts mark the setup (add_setup_tokens)")
        first = [int(places[0]) for places in found]
        return (first[0], first[1]), (first[2], first[3])

    def last_of(self, ids: np.ndarray, phrase: str) -> int:
        """The position of the last token of a phrase. InputError where the prompt does not have it."""
        for text in (f" {phrase}", phrase):
            wanted = self.tokens(text)
            if len(wanted) <= len(ids):
                windows = np.lib.stride_tricks.sliding_window_view(ids, len(wanted))
                found = np.flatnonzero((windows == wanted).all(axis=1))
                if len(found):
                    return int(found[-1]) + len(wanted) - 1
        raise InputError(f"the prompt does not say {phrase!r}")

    def _tokenize_pieces(self, head: str, tail: str) -> tuple[np.ndarray, np.ndarray]:
        placeholder = self._tokenizer.token_to_id(IMAGE_PLACEHOLDER)
        ids: list[int] = []
        for token in self._tokenizer.encode(head, add_special_tokens=False).ids:
            ids.extend(self._image_ids if token == placeholder else [token])
        if ids[0] != self._config.bos_token_id:
            ids.insert(0, self._config.bos_token_id)
        return np.asarray(ids), np.asarray(self._tokenizer.encode(tail, add_special_tokens=False).ids)


def _placeholders(num_images: int) -> str:
    if num_images == 1:
        return IMAGE_PLACEHOLDER
    return "".join(f"Image {index + 1}{IMAGE_PLACEHOLDER}" for index in range(num_images))


def _wrapped(text: str, name: str, wanted: bool) -> str:
    opening, closing = f"<{name}_start>", f"<{name}_end>"
    if not text or not wanted or (text.startswith(opening) and text.endswith(closing)):
        return text
    return f"{opening}{text}{closing}"


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads tokenizer.json as data. tokenizer_config.json is not needed, so its form (a list or an object of
    extra special tokens) does not matter."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"tokenizer.json is missing in {folder}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise CheckpointError(f"{path} is not a tokenizer: {error}") from None


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """CheckpointError unless the tokenizer gives every token this engine writes the id that config.json states."""
    image, state = config.image_tokens, config.state_tokens
    wanted: dict[str, int | None] = {
        "<im_start>": image.start,
        "<im_patch>": image.patch,
        "<im_end>": image.end,
        "<state_start>": state.start,
        "<state_end>": state.end,
        "<state_0>": state.first,
        f"<state_{state.count - 1}>": state.first + state.count - 1,
        "<action_output>": config.raw["action_output_token_id"],
        IMAGE_PLACEHOLDER: None,
    }
    if config.depth:
        depth = config.depth
        wanted |= {"<depth_output>": depth.output, "<depth_start>": depth.start, "<depth_end>": depth.end}
        last = depth.codebook_size - 1
        wanted |= {"<depth_0>": depth.first, f"<depth_{last}>": depth.first + last}
    if config.action_tokens:
        action = config.action_tokens
        last = action.count - 1
        wanted |= {"<action_start>": action.start, "<action_end>": action.end}
        wanted |= {"<action_0>": action.first, f"<action_{last}>": action.first + last}
    if config.add_setup_tokens:
        wanted |= {"<setup_start>": None, "<setup_end>": None}
    if config.add_control_tokens:
        wanted |= {"<control_start>": None, "<control_end>": None}
    control = tokenizer.get_added_tokens_decoder()
    for name, end in (("bos_token_id", config.bos_token_id), ("eos_token_id", config.eos_token_id)):
        if end not in control:
            raise CheckpointError(
                f"config.json: {name} is {end}, which tokenizer.json has as {tokenizer.id_to_token(end)!r}, "
                "expected a control token such as <|im_end|>; the files do not match"
            )
    for token, token_id in wanted.items():
        found = tokenizer.token_to_id(token)
        if found is None or (token_id is not None and found != token_id):
            expected = "it" if token_id is None else f"id {token_id} (config.json)"
            raise CheckpointError(
                f"tokenizer.json has {token!r} as {found}, expected {expected}; the files do not match"
            )
