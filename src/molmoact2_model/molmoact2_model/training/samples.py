# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Training frames as sequences of tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
import torch

from molmoact2_data.streaming import TrainingFrame

from ..config import ModelConfig
from ..errors import InputError, ModelError
from ..fast import FastTokenizer
from ..images import ImageConfig
from ..normalization import TagStats
from ..processing import PromptBuilder, normalize_instruction, pixel_values
from ..visibility import visible_to_expert
from .batch import CODES, DISCRETE, IGNORED, PLACE, TEXT, Batch, Look, Sequence, collate
from .fast_data import BOUNDED

STYLES = ("action", "depth", "depth_action")


@dataclass(frozen=True)
class Mix:
    """What is asked about a frame. action, depth, depth_action: how often each style, as shares of batches: sequences
    with depth codes are much longer, and would make the others wait. instructions: sequences a frame, the demonstrated
    instruction and, where the data knows them, others; with depth codes it is one of these. questions: the
    share of frames whose questions are asked too. discrete: actions as tokens too. code_noise: the share of depth codes
    that are shown wrong. places: positions of the prompt are asked where the thing named is (batch.PLACE) in the
    images of the first two cameras; and the beginning of a prompt, up to these, for each other thing whose place the
    data know."""

    action: float = 1.0
    depth: float = 0.0
    depth_action: float = 0.0
    instructions: int = 1
    questions: float = 0.0
    discrete: bool = False
    code_noise: float = 0.1
    places: bool = False


@dataclass(frozen=True)
class Augment:
    """brightness: of 255, contrast: of 1, each up to so much either way, one draw for each camera; state_noise:
    standard deviation, in the model's range; lost: share of frames in which one camera's image is black, white or
    noise, as from a camera that fails."""

    brightness: float = 0.0
    contrast: float = 0.0
    state_noise: float = 0.0
    lost: float = 0.0


class Sampler:
    """Makes batches. cameras: the data set's, in the order in which the model sees them."""

    def __init__(
        self, config: ModelConfig, images: ImageConfig, prompts: PromptBuilder, tag: TagStats, cameras: Many[str],
        mix: Mix, augment: Augment, fast: FastTokenizer | None = None,
    ):
        self._config, self._images, self._prompts, self._tag = config, images, prompts, tag
        self._cameras, self._mix, self._augment, self._fast = tuple(cameras), mix, augment, fast
        if (mix.depth or mix.depth_action) and config.depth is None:
            raise InputError("the recipe asks for depth, which this checkpoint does not have (enable_depth_reasoning)")
        if mix.discrete and (fast is None or config.action_tokens is None):
            raise InputError("discrete actions need a FAST tokenizer and a checkpoint with action tokens")
        if mix.discrete and tag.action.mode not in BOUNDED:
            raise InputError(
                f"discrete actions are of values with a range, and norm_mode is {tag.action.mode!r}; make the norm "
                f"statistics anew with one of {', '.join(BOUNDED)}"
            )
        if mix.discrete and not config.supports_discrete:    # its expert would see the tokens of what it is to draw
            raise InputError(
                f"this checkpoint has no discrete actions (config.json: action_mode is {config.trained_mode!r}); leave "
                "mix.discrete out"
            )

    def style(self, random: np.random.Generator) -> str:
        """Of a batch: one of STYLES, as often as the mix says."""
        shares = np.array([self._mix.action, self._mix.depth, self._mix.depth_action])
        return STYLES[int(random.choice(3, p=shares / shares.sum()))]

    def batch(self, frames: Many[TrainingFrame], style: str, random: np.random.Generator) -> Batch:
        """Where nothing was measured in any of the frames they are asked for actions alone. Errors: InputError, with
        the frame that is at fault."""
        if style != "action":
            coded = _with_codes(frames, random)
            frames, style = (coded, style) if coded else (frames, "action")
        pixels, sequences = [], []
        for frame in frames:
            lacking = [camera for camera in self._cameras if camera not in frame.images]
            if lacking:
                raise InputError(f"{frame.dataset} has no camera {lacking[0]!r}; it has {', '.join(frame.images)}")
            images = [self._changed(frame.images[camera], random) for camera in self._cameras]
            if random.random() < self._augment.lost:
                camera = int(random.integers(len(images)))
                images[camera] = _lost(images[camera].shape, random)
                frame = self._blind(frame, camera)
            pixels.append(pixel_values(images, self._images, torch.device("cpu")))
            try:
                sequences.append(self._sequences(frame, style, random))
            except ModelError as error:
                where = f"{frame.dataset}: frame {frame.frame} of episode {frame.episode}"
                raise InputError(f"{where} ({frame.instruction!r}): {error}") from None
        return collate(
            torch.stack(pixels), sequences, self._tag.horizon, self._tag.action.dim, self._config.max_action_dim,
            self._config.image_tokens.patch, self._images.token_grid,
        )

    def _blind(self, frame: TrainingFrame, camera: int) -> TrainingFrame:
        """Without what is found in that camera's image alone; depth codes are asked still, so that they are ended."""
        if camera == 0:
            return dataclasses.replace(frame, points={}, questions=())
        seen = {name: view for name, view in frame.elsewhere.items() if name != self._cameras[camera]}
        return dataclasses.replace(frame, elsewhere=seen)

    def _changed(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if not (self._augment.brightness or self._augment.contrast):
            return image
        by = 1 + self._augment.contrast * random.uniform(-1, 1)
        more = 255 * self._augment.brightness * random.uniform(-1, 1)
        return np.clip((image.astype(np.float32) - 128) * by + 128 + more, 0, 255).astype(np.uint8)

    def _sequences(self, frame: TrainingFrame, style: str, random: np.random.Generator) -> list[Sequence]:
        state = self._tag.state.normalize(frame.state)
        if self._augment.state_noise:
            state = np.clip(state + random.normal(0, self._augment.state_noise, state.shape), -1, 1).astype(np.float32)
        wanted: list[tuple[str, np.ndarray, np.ndarray]] = [(frame.instruction, frame.chunk, frame.valid)]
        others = list(frame.alternatives.items())
        for index in random.permutation(len(others))[: self._mix.instructions - 1]:
            instruction, chunk = others[index]
            wanted.append((instruction, chunk, np.ones(len(chunk), bool)))
        if style != "action":
            wanted = [wanted[int(random.integers(len(wanted)))]]
        sequences = [self._action(frame, state, style, *what, random) for what in wanted]
        sequences += self._others(frame, state, [words for words, *_ in wanted])
        if frame.questions and random.random() < self._mix.questions:
            question, answer = frame.questions[int(random.integers(len(frame.questions)))]
            sequences.append(self._question(question, answer))
        return sequences

    # --- actions and depth ------------------------------------------------------------------------------------------
    def _action(
        self, frame: TrainingFrame, state: np.ndarray, style: str, instruction: str, chunk: np.ndarray,
        valid: np.ndarray, random: np.random.Generator,
    ) -> Sequence:
        with_actions = style != "depth"
        prompt = self._prompts.build(instruction, state, len(self._cameras), style != "action", with_actions)
        ids, targets, kinds = list(prompt.ids), [IGNORED] * len(prompt.ids), [TEXT] * len(prompt.ids)
        if style != "action":
            assert frame.depth_codes is not None
            _append(ids, targets, kinds, *self._codes(frame.depth_codes, random), CODES)
        normalized = self._tag.action.normalize(chunk)
        # Past the end of an episode the last waypoint is repeated, in FAST tokenizers' data too; a chunk without any
        # that is to be learnt is spelled to nobody.
        if with_actions and self._mix.discrete and valid.any():
            tokens = self._spelled(np.clip(normalized, -1, 1))    # as of what tokenizers are made of
            _append(ids, targets, kinds, tokens, tokens, DISCRETE)
        named = self._named(instruction, frame)
        look = self._point(ids, targets, kinds, named, frame) if named is not None else None
        array = np.asarray(ids)
        is_image = np.zeros(len(ids), bool)
        is_image[: len(prompt.is_image)] = prompt.is_image
        return Sequence(
            array, is_image, np.asarray(targets), np.asarray(kinds), visible_to_expert(array, self._config),
            normalized if with_actions else None, valid if with_actions else None, look,
        )

    def _codes(self, codes: np.ndarray, random: np.random.Generator) -> tuple[list[int], list[int]]:
        """What is shown and what is to be predicted: start, codes, end. Some codes are shown wrong, so that the model
        learns to look at the image more than at the code before."""
        depth = self._config.depth
        assert depth is not None
        if len(codes) != depth.num_codes or codes.min() < 0 or codes.max() >= depth.codebook_size:
            raise InputError(
                f"a frame has {len(codes)} depth codes, {codes.min()} to {codes.max()}; the checkpoint has "
                f"{depth.num_codes}, 0 to {depth.codebook_size - 1}"
            )
        shown = codes.astype(np.int64)
        wrong = random.random(len(shown)) < self._mix.code_noise
        shown = np.where(wrong, random.integers(0, depth.codebook_size, len(shown)), shown)
        edges = lambda middle: [depth.start, *(middle + depth.first).tolist(), depth.end]  # noqa: E731
        return edges(shown), edges(codes.astype(np.int64))

    def _spelled(self, normalized: np.ndarray) -> list[int]:
        tokens = self._config.action_tokens
        assert tokens is not None and self._fast is not None
        bins = self._fast.encode(normalized)
        return [tokens.start, *(tokens.first + bin for bin in bins), tokens.end, self._config.eos_token_id]

    # --- places -----------------------------------------------------------------------------------------------------
    def _named(self, instruction: str, frame: TrainingFrame) -> str | None:
        return named_in(instruction, frame.points) if self._mix.places else None

    def _others(self, frame: TrainingFrame, state: np.ndarray, asked: Many[str]) -> list[Sequence]:
        """The instruction with each thing's name in it that nobody asked for, cut off behind the marks."""
        named, known = self._named(frame.instruction, frame), {self._named(words, frame) for words in asked}
        if named is None:
            return []
        sequences = []
        for phrase in (phrase for phrase in frame.points if phrase not in known):
            words = _with_other(frame.instruction, named, phrase)
            prompt = self._prompts.build(words, state, len(self._cameras), False)
            ids, targets, kinds = list(prompt.ids), [IGNORED] * len(prompt.ids), [TEXT] * len(prompt.ids)
            look = self._point(ids, targets, kinds, phrase, frame)
            end = max(place for place, target in enumerate(targets) if target != IGNORED) + 1
            sequences.append(Sequence(
                prompt.ids[:end], prompt.is_image[:end], np.asarray(targets[:end]), np.asarray(kinds[:end]),
                np.ones(end, bool), look=look,
            ))    # fmt: skip
        return sequences

    def _point(
        self, ids: list[int], targets: list[int], kinds: list[int], phrase: str, frame: TrainingFrame
    ) -> Look:
        """Asks two positions of the prompt for each camera, whose next token nobody asks for, for the place: across and
        down, each as a state token. They stand behind the instruction. Returns what is to look there: the phrase
        itself."""
        array, state = np.asarray(ids), self._config.state_tokens
        views = [frame.points, *(frame.elsewhere.get(camera, {}) for camera in self._cameras[1:])]
        places = tuple(view.get(phrase) for view in views[:2])
        for marks, place in zip(self._prompts.marks(array), places, strict=False):
            for mark, share in zip(marks, place or (), strict=False):
                targets[mark], kinds[mark] = state.first + round(share * (state.count - 1)), PLACE
        return Look(self._prompts.last_of(array, _plain(phrase)), places)

    # --- questions --------------------------------------------------------------------------------------------------
    def _question(self, question: str, answer: str) -> Sequence:
        prompt = self._prompts.question(question, len(self._cameras))
        ids, targets, kinds = list(prompt.ids), [IGNORED] * len(prompt.ids), [TEXT] * len(prompt.ids)
        spoken = [*self._prompts.tokens(answer), self._config.eos_token_id]
        _append(ids, targets, kinds, spoken, spoken, TEXT)
        is_image = np.zeros(len(ids), bool)
        is_image[: len(prompt.is_image)] = prompt.is_image
        return Sequence(
            np.asarray(ids), is_image, np.asarray(targets), np.asarray(kinds), np.ones(len(ids), bool)
        )


def named_in(instruction: str, phrases: Iterable[str]) -> str | None:
    """The thing that an instruction names, of those whose place is known: a phrase whose words stand in it one after
    the other. Of several the one of the most words, then the first."""
    text = normalize_instruction(instruction)
    found = [phrase for phrase in phrases if _plain(phrase) and _said_of(phrase).search(text)]
    return max(found, key=lambda phrase: len(phrase.split()), default=None)


def _said_of(phrase: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(_plain(phrase))}(?!\w)")


def _with_other(instruction: str, named: str, phrase: str) -> str:
    """The instruction with another thing in the place of the named one."""
    other = _plain(phrase)
    return _said_of(named).sub(lambda _: other, normalize_instruction(instruction))


def _plain(phrase: str) -> str:
    """As an instruction has it in a prompt."""
    return " ".join(phrase.lower().split())


def _with_codes(frames: Many[TrainingFrame], random: np.random.Generator) -> list[TrainingFrame]:
    """The frames, and where one has no depth codes (nothing was measured there) another one of them in its place; empty
    where none has."""
    known = [frame for frame in frames if frame.depth_codes is not None]
    if not known:
        return []
    return [f if f.depth_codes is not None else known[int(random.integers(len(known)))] for f in frames]


def _lost(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """An image of a camera that fails: black, white or noise."""
    kind = int(random.integers(3))
    return np.full(shape, 255 * kind, np.uint8) if kind < 2 else random.integers(0, 256, shape, np.uint8)


def _append(
    ids: list[int], targets: list[int], kinds: list[int], shown: Many[int], wanted: Many[int], kind: int
) -> None:
    """Adds tokens, and each as the target of the position before it."""
    for token, target in zip(shown, wanted, strict=True):
        targets[-1], kinds[-1] = target, kind
        ids.append(token)
        targets.append(IGNORED)
        kinds.append(kind)
