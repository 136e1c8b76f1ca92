# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a recipe: reads, steps, saves, and can be continued to the step."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from queue import Full, Queue
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from molmoact2_data.embodiments import embodiment, frame_of
from molmoact2_data.keep import open_kept
from molmoact2_data.streaming import Share, Stream, TrainingFrame

from ..errors import InputError, ModelError
from .batch import Batch
from .beginning import Beginning
from .network import TrainingModel
from .recipe import Data, Recipe
from .saving import load_state, save_checkpoint, save_state

STATE = "state.safetensors"
CHECKPOINT = "checkpoint"
AHEAD = 3    # batches that wait for the model


class Trainer:
    """One run. out: folder of checkpoint, state and logs. device: of torch."""

    def __init__(self, recipe: Recipe, beginning: Beginning, out: Path, device: torch.device):
        self._recipe, self._beginning, self._out, self._device = recipe, beginning, out, device
        torch.manual_seed(recipe.run.seed)
        self.model = TrainingModel(beginning.network, beginning.images, recipe.objective).to(device).train()
        self._groups = self._trained()
        self._names = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        options = recipe.optimizer
        self._optimizer = torch.optim.AdamW(
            self._groups, options.rate, (options.beta1, options.beta2), options.epsilon, weight_decay=options.decay
        )
        self._parameters: dict[str, torch.nn.Parameter] = dict(self.model.named_parameters())
        self._ema = {name: self._parameters[name].detach().clone() for name in self._names} if options.ema else {}
        self.step = 0

    def _trained(self) -> list[dict[str, Any]]:
        """Marks what is trained, and groups it by rate and decay: matrices decay, vectors do not."""
        options = self._recipe.optimizer
        factors = {"vision": options.vision, "language": options.language, "expert": options.expert}
        if options.trained == "expert":
            factors |= {"vision": 0.0, "language": 0.0}
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            factor = factors[_part(name)]
            parameter.requires_grad_(factor > 0)
            if factor > 0:
                decay = options.decay if parameter.ndim > 1 else 0.0
                groups.setdefault((factor, decay), []).append(parameter)
        if not groups:
            raise InputError("the recipe trains nothing: every factor of the learning rate is 0")
        return [
            {"params": parameters, "weight_decay": decay, "factor": factor}
            for (factor, decay), parameters in groups.items()
        ]

    # --- continuing -------------------------------------------------------------------------------------------------
    def save(self) -> None:
        """The state to go on from, and a checkpoint."""
        tensors: dict[str, torch.Tensor] = {f"model.{name}": self._parameters[name] for name in self._names}
        tensors |= {f"ema.{name}": tensor for name, tensor in self._ema.items()}
        numbering = {id(parameter): name for name, parameter in self._parameters.items()}
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                for key, value in self._optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{key}.{numbering[id(parameter)]}"] = value
        self._out.mkdir(parents=True, exist_ok=True)
        save_state(self._out / STATE, tensors, {"step": self.step})
        self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """With the averaged weights, where there are."""
        kept: dict[str, torch.Tensor] = {name: self._parameters[name].data for name in self._ema}
        for name, average in self._ema.items():
            self._parameters[name].data = average
        try:
            beginning = self._beginning
            save_checkpoint(beginning.network, beginning.files, self._out / CHECKPOINT, self._card())
        finally:
            for name, tensor in kept.items():
                self._parameters[name].data = tensor

    def load(self) -> None:
        """Goes on where the last save was. Errors: InputError for a state of another recipe."""
        path = self._out / STATE
        tensors, numbers = load_state(path)
        wanted = {f"model.{name}" for name in self._names}
        found = {name for name in tensors if name.startswith("model.")}
        if wanted != found:
            raise InputError(f"{path} is of another recipe: it has other weights; begin again with another --out")
        for name in self._names:
            parameter = self._parameters[name]
            if tensors[f"model.{name}"].shape != parameter.shape:
                raise InputError(f"{path}: {name} has another shape than the recipe's; begin again with another --out")
            parameter.data.copy_(tensors[f"model.{name}"])
            state = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"optimizer.{key}.{name}" in tensors:
                    value = tensors[f"optimizer.{key}.{name}"]
                    state[key] = value if key == "step" else value.to(parameter.device)
            if state:
                self._optimizer.state[parameter] = state
        for name in self._ema:
            self._ema[name].copy_(tensors[f"ema.{name}"])
        self.step = numbers["step"]

    def _card(self) -> str:
        recipe = self._recipe
        lines = [
            f"# {recipe.stage}", "", recipe.description, "",
            f"Step {self.step} of {recipe.run.steps}, {recipe.run.batch * recipe.run.accumulate} frames each.",
        ]
        return "\n".join([*lines, ""])

    # --- the run ----------------------------------------------------------------------------------------------------
    def run(self, show: bool) -> None:
        """To the recipe's last step. Ctrl-C saves, and is passed on."""
        run = self._recipe.run
        log = SummaryWriter(str(self._out / "tensorboard"))
        mean: dict[str, float] = {}
        stream = self._stream()
        with tqdm(desc="checking the data", unit="episode", disable=not show) as bar:
            stream.check(bar.update)
        with _Ahead(self._batches(iter(stream))) as batches, tqdm(
            total=run.steps, initial=self.step, unit="step", disable=not show
        ) as bar:
            try:
                while self.step < run.steps:
                    parts = self._step(batches)
                    mean |= {name: _mix(mean.get(name), value) for name, value in parts.items()}
                    for name, value in parts.items():
                        log.add_scalar(name, value, self.step)
                    bar.update()
                    bar.set_postfix_str(_told(mean))
                    if self.step % run.save_every == 0 or self.step == run.steps:
                        self.save()
                        tqdm.write(f"step {self.step}: {_told(mean)}")
            except KeyboardInterrupt:
                self.save()
                raise
            finally:
                log.close()

    def _step(self, batches: Iterator[Batch]) -> dict[str, float]:
        run, options = self._recipe.run, self._recipe.optimizer
        rate = _rate(self.step, run.steps, options.warmup, options.final)
        for group in self._optimizer.param_groups:
            group["lr"] = options.rate * rate * group["factor"]
        self._optimizer.zero_grad(set_to_none=True)
        parts: dict[str, float] = {}
        # Of the step alone, so that a run that is continued draws what an unbroken one would.
        generator = torch.Generator().manual_seed(run.seed * 1_000_003 + self.step)
        for _ in range(run.accumulate):
            batch = next(batches).to(self._device)
            with torch.autocast(self._device.type, torch.bfloat16) if run.precision == "bf16" else nullcontext():
                losses = self.model(batch, generator)
            if not torch.isfinite(losses.total):
                raise ModelError(f"the loss of step {self.step} is not finite: {losses.parts}; lower optimizer.rate")
            (losses.total / run.accumulate).backward()
            parts = losses.parts
        trained = [self._parameters[name] for name in self._names]
        norm = torch.nn.utils.clip_grad_norm_(trained, options.clip if options.clip > 0 else math.inf)
        self._optimizer.step()
        self.step += 1
        if self._ema:
            self._average()
        return parts | {"gradient": float(norm), "rate": options.rate * rate}

    def _average(self) -> None:
        keep = min(self._recipe.optimizer.ema, self.step / (self.step + 20))
        with torch.no_grad():
            for name, average in self._ema.items():
                average.lerp_(self._parameters[name].detach(), 1 - keep)

    def _stream(self) -> Stream:
        run, horizon = self._recipe.run, self._beginning.tag.horizon
        drawn = self.step * run.batch * run.accumulate
        shares = [self._share(data) for data in self._recipe.data]
        return Stream(shares, horizon, run.seed, every=run.every, shift=run.shift, buffer=run.buffer, skip=drawn)

    def _share(self, data: Data) -> Share:
        path = self._beginning.folder / data.path
        frame = None
        if data.units:
            robot = embodiment(self._recipe.robot, self._recipe.norm_tag)
            frame = frame_of(open_kept(path)[0], robot, data.units, by_position=False)
        return Share(path, data.weight, range(*data.episodes) if data.episodes else None, frame)

    def _batches(self, stream: Iterator[TrainingFrame]) -> Iterator[Batch]:
        run = self._recipe.run
        for number in itertools.count(self.step * run.accumulate):
            random = np.random.default_rng([run.seed, number])
            frames = list(itertools.islice(stream, run.batch))
            yield self._beginning.sampler.batch(frames, random)


class _Ahead:
    """Batches made in a thread of its own, a few ahead of the model."""

    def __init__(self, batches: Iterator[Batch]):
        self._batches, self._queue = batches, Queue[Batch | Exception](AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="batches", daemon=True)

    def __enter__(self) -> _Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> _Ahead:
        return self

    def __next__(self) -> Batch:
        found = self._queue.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _fill(self) -> None:
        try:
            for batch in self._batches:
                if not self._put(batch):
                    return
        except Exception as error:    # raised where the batch is asked for
            self._put(error)

    def _put(self, what: Batch | Exception) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(what, timeout=0.1)
                return True
            except Full:
                continue
        return False


def _part(name: str) -> str:
    if name.startswith(("expert.", "gates.")):
        return "expert"
    return "vision" if "vision_tower" in name or "multi_modal_projector" in name else "language"


def _rate(step: int, steps: int, warmup: int, final: float) -> float:
    """Of the peak: up in a line, then down along a cosine to its final share."""
    if step < warmup:
        return (step + 1) / warmup
    along = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def _mix(before: float | None, now: float) -> float:
    return now if before is None or math.isnan(before) else before + 0.03 * (now - before)


def _told(mean: dict[str, float]) -> str:
    shown = [(name, value) for name, value in mean.items() if name not in ("rate", "gradient")]
    return "  ".join(f"{name} {value:.3f}" for name, value in shown)
