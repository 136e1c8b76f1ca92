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

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from molmoact2_data.embodiments import check_as_they_are, check_rate, embodiment, frame_of
from molmoact2_data.keep import open_kept
from molmoact2_data.streaming import Share, Stream, TrainingFrame

from ..errors import InputError, ModelError
from ..policy import MolmoAct2Policy
from .attention import faster_attention
from .batch import Batch
from .beginning import Beginning
from .network import TrainingModel
from .optimizers import Optimizers
from .pictures import Pictures, frames_to_draw
from .recipe import Data, Recipe
from .saving import load_state, save_checkpoint, save_state
from .trained import Trained

STATE = "state.safetensors"
CHECKPOINT = "checkpoint"
SAMPLES = "samples"
AHEAD = 3    # batches that wait for the model


class Trainer:
    """One run. out: folder of checkpoint, state and logs. processes: those that train together, each on a batch of its
    own; the first one saves and logs."""

    def __init__(self, recipe: Recipe, beginning: Beginning, out: Path, processes: Accelerator):
        self._recipe, self._beginning, self._out, self._processes = recipe, beginning, out, processes
        torch.manual_seed(recipe.run.seed)
        model = TrainingModel(beginning.network, beginning.images, recipe.objective)
        self.model = model.to(processes.device).train()
        self._trained = Trained(self.model, recipe.optimizer)
        self._optimizers = Optimizers(self._trained.groups, self._trained.matrices, recipe.optimizer)
        self._together = processes.prepare_model(self.model)
        self.step = 0

    # --- continuing -------------------------------------------------------------------------------------------------
    def save(self) -> None:
        """The state to go on from, and a checkpoint."""
        if self._processes.is_main_process:
            self._save()
        self._processes.wait_for_everyone()

    def _save(self) -> None:
        trained = self._trained
        tensors: dict[str, torch.Tensor] = {f"model.{name}": tensor for name, tensor in trained.parameters.items()}
        tensors |= {f"ema.{name}": tensor for name, tensor in trained.average.items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizers.state(trained.parameters)}
        self._out.mkdir(parents=True, exist_ok=True)
        save_state(self._out / STATE, tensors, {"step": self.step})
        self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """With the averaged weights, where there are."""
        beginning = self._beginning
        with self._trained.released():
            dtype = torch.bfloat16 if self._recipe.run.saved == "bf16" else None
            save_checkpoint(beginning.network, beginning.files, self._out / CHECKPOINT, self._card(), dtype)

    def load(self) -> None:
        """Goes on where the last save was. Errors: InputError for a state of another recipe."""
        path = self._out / STATE
        tensors, numbers = load_state(path)
        trained = self._trained
        wanted = {f"model.{name}" for name in trained.parameters}
        found = {name for name in tensors if name.startswith("model.")}
        if wanted != found:
            raise InputError(f"{path} is of another recipe: it has other weights; begin again with another --out")
        for name, parameter in trained.parameters.items():
            if tensors[f"model.{name}"].shape != parameter.shape:
                raise InputError(f"{path}: {name} has another shape than the recipe's; begin again with another --out")
            parameter.data.copy_(tensors[f"model.{name}"])
        states = {name.removeprefix("optimizer."): tensors[name] for name in tensors if name.startswith("optimizer.")}
        self._optimizers.load(states, trained.parameters)
        for name, average in trained.average.items():
            average.copy_(tensors[f"ema.{name}"])
        self.step = numbers["step"]

    def _card(self) -> str:
        recipe = self._recipe
        lines = [
            f"# {recipe.stage}", "", recipe.description, "",
            f"Step {self.step} of {recipe.run.steps}, {recipe.run.batch * recipe.run.accumulate} frames each.",
        ]
        return "\n".join([*lines, ""])

    # --- the run ----------------------------------------------------------------------------------------------------
    def run(self, show: bool, until: int | None = None) -> None:
        """To the recipe's last step, or to another before it. Ctrl-C saves, and is passed on."""
        run, first = self._recipe.run, self._processes.is_main_process
        log = SummaryWriter(str(self._out / "tensorboard")) if first else None
        mean: dict[str, float] = {}
        stream, show = self._stream(), show and first
        end = run.steps if until is None else min(until, run.steps)
        pictures = self._pictures() if first else None
        frames = frames_to_draw(self._shares(), self._beginning.tag.horizon, run.every) if pictures else []
        with tqdm(desc="checking the data", unit="episode", disable=not show) as bar:
            stream.check(bar.update)
        with _Ahead(self._batches(iter(stream))) as batches, tqdm(
            total=run.steps, initial=self.step, unit="step", disable=not show
        ) as bar:
            try:
                while self.step < end:
                    parts = self._step(batches)
                    mean |= {name: _mix(mean.get(name), value) for name, value in parts.items()}
                    if log:
                        for name, value in parts.items():
                            log.add_scalar(name, value, self.step)
                    bar.update()
                    bar.set_postfix_str(_told(mean))
                    if self.step % run.save_every == 0 or self.step == end:
                        self.save()
                        tqdm.write(f"step {self.step}: {_told(mean)}") if first else None
                    if pictures and (self.step % run.sample_every == 0 or self.step == end):
                        with self._trained.released():
                            pictures.draw(frames, self._out / SAMPLES / f"step_{self.step:06d}.png")
            except KeyboardInterrupt:
                self.save()
                raise
            finally:
                log.close() if log else None

    def _pictures(self) -> Pictures | None:
        """None where the model has no actions to draw."""
        begin, recipe = self._beginning, self._recipe
        fast = recipe.start.fast_tokenizer if recipe.mix.discrete and begin.network.expert is None else ""
        if begin.network.expert is None and not fast:
            return None
        policy = MolmoAct2Policy(begin.network, begin.images, begin.stats, begin.tokenizer, recipe.stage)
        depth = "full" if recipe.mix.depth_action > 0 else "off"
        return Pictures(policy, recipe.norm_tag, recipe.cameras, begin.files, depth, fast)

    def _step(self, batches: Iterator[Batch]) -> dict[str, float]:
        run, options = self._recipe.run, self._recipe.optimizer
        rate = options.rate * _rate(self.step, run.steps, options.warmup, options.final)
        self._optimizers.clear()
        parts: dict[str, float] = {}
        # Of step and process alone, so that a run that is continued draws what an unbroken one would.
        generator = torch.Generator().manual_seed((run.seed * 1_000_003 + self.step) * 1_009 + self._process)
        for index in range(run.accumulate):
            last = index == run.accumulate - 1
            with nullcontext() if last else self._processes.no_sync(self._together):
                parts = self._backward(next(batches), generator)
        trained = self._trained
        norm = self._optimizers.step(rate, trained.parameters)
        self.step += 1
        trained.count(self.step)
        return parts | {"gradient": norm, "rate": rate}

    def _backward(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        run, device = self._recipe.run, self._processes.device
        half = torch.autocast(device.type, torch.bfloat16) if run.precision == "bf16" else nullcontext()
        with half, faster_attention(device, run.precision):
            losses = self._together(batch.to(device), generator)
        if not torch.isfinite(losses.total):
            raise ModelError(f"the loss of step {self.step} is not finite: {losses.parts}; lower optimizer.rate")
        self._processes.backward(losses.total / run.accumulate)
        return losses.parts

    @property
    def _process(self) -> int:
        return self._processes.process_index

    def _stream(self) -> Stream:
        run, horizon = self._recipe.run, self._beginning.tag.horizon
        drawn = self.step * run.batch * run.accumulate
        seed = (run.seed, self._process) if self._process else run.seed
        return Stream(self._shares(), horizon, seed, every=run.every, shift=run.shift, buffer=run.buffer, skip=drawn)

    def _shares(self) -> list[Share]:
        return [self._share(data) for data in self._recipe.data]

    def _share(self, data: Data) -> Share:
        path, tag, frame = Path(data.path).expanduser(), self._recipe.norm_tag, None
        dataset = open_kept(path)[0]
        if self._recipe.robot:
            check_rate(dataset, embodiment(self._recipe.robot, tag), tag)
        if data.units:
            frame = frame_of(dataset, embodiment(self._recipe.robot, tag), data.units, by_position=False)
        else:
            check_as_they_are(dataset, tag)
        return Share(path, data.weight, range(*data.episodes) if data.episodes else None, frame)

    def _batches(self, stream: Iterator[TrainingFrame]) -> Iterator[Batch]:
        run = self._recipe.run
        for number in itertools.count(self.step * run.accumulate):
            random = np.random.default_rng([run.seed, number, self._process])
            frames = list(itertools.islice(stream, run.batch))
            # The same in every process, so that none with a short batch waits for one with a long one.
            style = self._beginning.sampler.style(np.random.default_rng([run.seed, number]))
            yield self._beginning.sampler.batch(frames, style, random)


def open_processes(device: str) -> Accelerator:
    """This process, and those that `accelerate launch` or `torchrun` started beside it. device: cpu, cuda, or auto for
    a GPU where there is one. Errors: InputError for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU that torch can use; --device cpu trains on the processor")
    # Not every batch has every kind of target, so not every weight has a gradient in every step.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Told so, because without a GPU accelerate would take processes that torchrun started for one each.
    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), kwargs_handlers=[unused])


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
