# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a recipe: reads, steps, saves, and can be continued to the step."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from safetensors import SafetensorError
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from molmoact2_data.embodiments import check_as_they_are, check_rate, embodiment, frame_of
from molmoact2_data.keep import open_kept
from molmoact2_data.layout import CORRECTED
from molmoact2_data.streaming import Share, Stream, TrainingFrame

from ..errors import InputError, ModelError
from ..memory import free_memory
from ..policy import MolmoAct2Policy
from .ahead import Ahead
from .attention import faster_attention
from .batch import Batch
from .beginning import Beginning
from .network import Losses, TrainingModel
from .optimizers import Optimizers
from .pictures import Pictures, frames_to_draw
from .recipe import Data, Recipe
from .resuming import check_same_run, described, other_amounts
from .saving import load_state, save_checkpoint, save_state
from .stopping import Stop
from .trained import Trained
from .values import check_values

STATE = "state.safetensors"
CHECKPOINT = "checkpoint"
SAMPLES = "samples"
LOWER_RATE = "lower optimizer.rate. What was saved last stands (--resume --accept-changes goes on from it)"
PATIENCE = timedelta(hours=2)    # for which processes wait for each other
IDLE = 50    # steps on end without anything to learn, after which a run says so and ends


class Trainer:
    """One run. out: folder of checkpoint, state and logs. processes: those that train together, each on a batch of its
    own; the first one saves and logs."""

    def __init__(self, recipe: Recipe, beginning: Beginning, out: Path, processes: Accelerator):
        self._recipe, self._beginning, self._out, self._processes = recipe, beginning, out, processes
        torch.manual_seed(recipe.run.seed)
        model = TrainingModel(beginning.network, beginning.images, recipe.objective)
        self.model = model.to(processes.device).train()
        beginning.network.device = processes.device    # its weights are there now: sample pictures are made with them
        self._trained = Trained(self.model, recipe.optimizer)
        self._optimizers = Optimizers(self._trained.groups, self._trained.matrices, recipe.optimizer)
        self._together = processes.prepare_model(self.model)
        self.step, self.saved_step = 0, 0
        self._idle, self._stop = 0, Stop()

    # --- continuing -------------------------------------------------------------------------------------------------
    def save(self) -> None:
        """The state to go on from, and a checkpoint."""
        if self._processes.is_main_process:
            self._save()
        self._processes.wait_for_everyone()
        self.saved_step = self.step

    def _save(self) -> None:
        trained = self._trained
        tensors: dict[str, torch.Tensor] = {f"model.{name}": tensor for name, tensor in trained.parameters.items()}
        tensors |= {f"ema.{name}": tensor for name, tensor in trained.average.items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizers.state(trained.parameters)}
        self._out.mkdir(parents=True, exist_ok=True)
        beginning = self._beginning
        about = described(self._recipe, self._processes.num_processes, beginning.digests, beginning.amounts)
        with self._writing():
            save_state(self._out / STATE, tensors, self.step, about)
        self.save_checkpoint()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors: InputError where something cannot be written."""
        try:
            yield
        except (SafetensorError, OSError) as error:
            there = (self._out / STATE).is_file()
            goes_on = "go on from what was saved last with --resume" if there else "begin again"
            raise InputError(
                f"{self._out} cannot be written to at step {self.step}: {error}; make room, and {goes_on}"
            ) from None

    def save_checkpoint(self) -> None:
        """With the averaged weights, where there are."""
        beginning = self._beginning
        with self._writing(), self._trained.released():
            dtype = torch.bfloat16 if self._recipe.run.saved == "bf16" else None
            save_checkpoint(beginning.network, beginning.files, self._out / CHECKPOINT, self._card(), dtype)

    def load(self, accept_changes: bool = False) -> list[str]:
        """Goes on where the last save was. accept_changes: with a recipe that is not the run's, as far as its weights
        are the same. Returns what is to be known of it, a line for each. Errors: InputError for a state of another
        recipe."""
        path, trained = self._out / STATE, self._trained
        tensors, step, about = load_state(path)
        count, files = self._processes.num_processes, self._beginning.digests
        told = check_same_run(path, about, self._recipe, count, files, accept_changes)
        told += other_amounts(about, self._beginning.amounts)
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
            average.copy_(tensors.get(f"ema.{name}", tensors[f"model.{name}"]))
        if trained.average and not any(name.startswith("ema.") for name in tensors):
            told.append("no average of the weights was kept; it begins with the weights as they are")
        if step >= self._recipe.run.steps:
            told.append(f"the run has had its steps, {step} of {self._recipe.run.steps}; a higher run.steps goes on")
        self.step = self.saved_step = step
        self._mend_checkpoint()
        return told

    def _mend_checkpoint(self) -> None:
        """Where whoever saved the state came no further: the checkpoint is of the same step afterwards."""
        card = self._out / CHECKPOINT / "README.md"
        if self._processes.is_main_process and not (card.is_file() and card.read_text("utf-8") == self._card()):
            self.save_checkpoint()

    def _card(self) -> str:
        recipe, run = self._recipe, self._recipe.run
        frames = run.batch * run.accumulate * self._processes.num_processes
        lines = [
            f"# {recipe.stage}", "", recipe.description, "",
            f"Step {self.step} of {run.steps}, {frames} frames each. Weights in {run.saved}.",
        ]
        return "\n".join([*lines, ""])

    # --- the run ----------------------------------------------------------------------------------------------------
    def run(self, show: bool, until: int | None = None) -> None:
        """To the recipe's last step, or to another before it. Ctrl-C ends the step, saves, and is passed on; with
        several processes it is enough that one of them gets it."""
        run, first = self._recipe.run, self._processes.is_main_process
        stream, show = self._stream(), show and first
        self._check_room()
        end = run.steps if until is None else min(until, run.steps)
        with tqdm(desc="checking the data", unit="episode", disable=not show) as bar:
            stream.check(bar.update)
        pictures = self._pictures() if first else None
        horizon = self._beginning.tag.horizon
        frames = frames_to_draw(self._shares(), horizon, run.every, run.shift) if pictures else []
        # What an earlier process logged after its last save is passed over.
        log = SummaryWriter(str(self._out / "tensorboard"), purge_step=self.step + 1) if first else None
        mean: dict[str, float] = {}
        with Ahead(self._batches(iter(stream))) as batches, self._stop as stop, log or nullcontext(), tqdm(
            total=run.steps, initial=self.step, unit="step", disable=not show
        ) as bar:
            while self.step < end:
                parts, stopping = self._step(batches)
                stop.step_done()
                mean |= {name: _mix(mean.get(name), value) for name, value in parts.items()}
                if log:
                    for name, value in parts.items():
                        log.add_scalar(name, value, self.step)
                bar.update()
                bar.set_postfix_str(_told(mean))
                if self.step % run.save_every == 0 or self.step == end or stopping:
                    self.save()
                    tqdm.write(f"step {self.step}: {_told(mean)}") if first else None
                if stopping and self.step < end:
                    raise KeyboardInterrupt
                if pictures and (self.step % run.sample_every == 0 or self.step == end):
                    with self._trained.released():
                        pictures.draw(frames, self._out / SAMPLES / f"step_{self.step:06d}.png")

    def _pictures(self) -> Pictures | None:
        """None where the model has no actions to draw."""
        begin, recipe = self._beginning, self._recipe
        fast = recipe.start.fast_tokenizer if recipe.mix.discrete and begin.network.expert is None else ""
        if begin.network.expert is None and not fast:
            return None
        policy = MolmoAct2Policy(begin.network, begin.images, begin.stats, begin.tokenizer, recipe.stage)
        depth = "full" if recipe.mix.depth_action > 0 else "off"
        return Pictures(policy, recipe.norm_tag, recipe.cameras, begin.files, depth, fast)

    def _step(self, batches: Iterator[Batch]) -> tuple[dict[str, float], bool]:
        """Returns what is logged of it, and whether a process was asked to stop."""
        run, options = self._recipe.run, self._recipe.optimizer
        rate = options.rate * _rate(self.step, run.steps, options.warmup, options.final)
        self._optimizers.clear()
        parts: list[Losses] = []
        # Of step and process alone, so that a run that is continued draws what an unbroken one would.
        generator = torch.Generator().manual_seed((run.seed * 1_000_003 + self.step) * 1_009 + self._process)
        for index in range(run.accumulate):
            last = index == run.accumulate - 1
            with nullcontext() if last else self._processes.no_sync(self._together):
                parts.append(self._backward(next(batches), generator))
        broken, taught, stopping = self._counted(
            sum(not bool(torch.isfinite(losses.total)) for losses in parts),
            sum(losses.teaches for losses in parts), self._stop.asked,
        )    # fmt: skip
        if broken:
            raise ModelError(f"the loss of step {self.step} is not finite: {[p.parts for p in parts]}; {LOWER_RATE}")
        norm = self._moved(rate) if taught else 0.0
        self._idle = 0 if taught else self._idle + 1
        if self._idle == IDLE:
            raise ModelError(
                f"there was nothing to learn in the last {IDLE} steps, up to step {self.step}: no frame has a target "
                "that the recipe's mix asks for, its objective weighs and the weights that are trained depend on"
            )
        self.step += 1
        self._trained.count(self.step)
        # Several processes go by what they knew of each other; what one was asked since counts in the next step.
        stop = self._stop.asked if self._processes.num_processes == 1 else bool(stopping)
        return _means([losses.parts for losses in parts]) | {"gradient": norm, "rate": rate}, stop

    def _moved(self, rate: float) -> float:
        """Steps the weights. Returns the gradient's norm."""
        try:
            return self._optimizers.step(rate, self._trained.parameters)
        except ModelError as error:
            raise ModelError(f"step {self.step}: {error}; {LOWER_RATE}") from None

    def _counted(self, *numbers: int) -> list[int]:
        """Sums over all processes, so that all of them do the same next."""
        return self._processes.reduce(torch.tensor(numbers, device=self._processes.device), "sum").tolist()

    def _backward(self, batch: Batch, generator: torch.Generator) -> Losses:
        run, device = self._recipe.run, self._processes.device
        half = torch.autocast(device.type, torch.bfloat16) if run.precision == "bf16" else nullcontext()
        with half, faster_attention(device, run.precision):
            losses = self._together(batch.to(device), generator)
        # Also where it is not finite: the other processes wait for this one's gradient.
        self._processes.backward(losses.total / run.accumulate)
        return replace(losses, total=losses.total.detach())

    @property
    def _process(self) -> int:
        return self._processes.process_index

    def _stream(self) -> Stream:
        run, horizon = self._recipe.run, self._beginning.tag.horizon
        drawn = self.step * run.batch * run.accumulate
        seed = (run.seed, self._process) if self._process else run.seed
        shares, shift = self._shares(), run.shift
        stream = Stream(shares, horizon, seed, every=run.every, shift=shift, buffer=run.buffer, skip=drawn)
        # A batch is held whole, images and all: one of a mistyped size would take all memory there is.
        count = self._processes.num_processes
        if run.batch * count > stream.used:
            times = f" in each of {count} processes" if count > 1 else ""
            raise InputError(
                f"run.batch is {run.batch}{times}; the data have {stream.used} frames (one in run.every {run.every}); "
                "lower run.batch, or name more data"
            )
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))    # by torchrun and accelerate: processes on this machine
        held, (free, of) = stream.held * beside, free_memory("cpu")
        if held > free:
            times = f" in each of {beside} processes" if beside > 1 else ""
            raise InputError(
                f"run.buffer is {run.buffer}{times}: so many frames and the longest episode's, with their images, take "
                f"{held / 1e9:.1f} GB, and {free / 1e9:.1f} GB of {of} are free; lower run.buffer, or raise run.every"
            )
        return stream

    def _check_room(self) -> None:
        """That main memory holds what is to be saved, state and checkpoint one after the other. Errors: InputError."""
        trained, moments = self._trained, 4 * self._optimizers.numbers
        written = sum(p.numel() for p in self.model.parameters()) * (2 if self._recipe.run.saved == "bf16" else 4)
        if self._processes.device.type == "cpu":    # the state is there, but for the moments that the first step makes
            needed = moments + written
        else:
            weights = 4 * sum(parameter.numel() for parameter in trained.parameters.values())
            needed = max(weights * (2 if trained.average else 1) + moments, written + 4 * trained.adapted)
        free, of = free_memory("cpu")
        if needed > free:
            raise InputError(
                f"to save the run takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of {of} are free; "
                "run.saved: bf16, fewer trained weights (optimizer.trained: expert) and no optimizer.ema take less"
            )

    def _shares(self) -> list[Share]:
        return [self._share(data) for data in self._recipe.data]

    def _share(self, data: Data) -> Share:
        path, tag, frame = Path(data.path).expanduser(), self._recipe.norm_tag, None
        dataset, run = open_kept(path)[0], self._recipe.run
        stride = dataset.notes.get(CORRECTED)
        if stride and (run.shift or run.every % stride):
            raise InputError(
                f"{path} was corrected at every {stride} frames, and the frames between them teach nothing; set "
                f"run.every to {stride} and run.shift to false"
            )
        check_values(dataset, self._beginning.stats, tag, bool(data.units))
        if self._recipe.robot:
            check_rate(dataset, embodiment(self._recipe.robot, tag), tag)
        if data.units:
            frame = frame_of(dataset, embodiment(self._recipe.robot, tag), data.units, by_position=False)
        else:
            check_as_they_are(dataset, tag)
        return Share(path, data.weight, data.selection, frame, self._recipe.cameras[0])

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
    a GPU where there is one. Errors: InputError for a GPU that is not there, or another way to share a run than to have
    a copy of the weights in each process."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU that torch can use; --device cpu trains on the processor")
    # Not every batch has every kind of target, so not every weight has a gradient in every step.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # The first one alone writes, which takes long where the weights are many.
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    # cpu is told, because without a GPU accelerate would take processes that torchrun started for one each; precision,
    # because what a user has once answered `accelerate config` would count more than the recipe.
    processes = Accelerator(
        cpu=device == "cpu" or not torch.cuda.is_available(), mixed_precision="no", kwargs_handlers=[unused, patience]
    )
    if processes.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise InputError(
            f"accelerate is configured for {processes.distributed_type.value}, which this training does not know; "
            "start it with accelerate launch --multi_gpu, or with torchrun"
        )
    return processes


def _rate(step: int, steps: int, warmup: int, final: float) -> float:
    """Of the peak: up in a line, then down along a cosine to its final share."""
    if step < warmup:
        return (step + 1) / warmup
    along = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def _means(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each number over the parts that have it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: float(np.mean([part[name] for part in parts if name in part])) for name in names}


def _mix(before: float | None, now: float) -> float:
    return now if before is None or math.isnan(before) else before + 0.03 * (now - before)


def _told(mean: dict[str, float]) -> str:
    shown = [(name, value) for name, value in mean.items() if name not in ("rate", "gradient")]
    return "  ".join(f"{name} {value:.3f}" for name, value in shown)
