"""The training loop: steps, averaged weights, checkpoints, log. A run resumes at the step of its checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.augmentation import Scale
from vps_ros.learning.data.batches import Batch, BatchSpec, training_batch
from vps_ros.learning.data.clips import Clip
from vps_ros.learning.data.entries import labels_of
from vps_ros.learning.data.mixture import Mixture
from vps_ros.learning.data.sources import OtherFrames, source_of
from vps_ros.learning.kinds import kind_for, normalised, require_clips
from vps_ros.learning.recipe import Phase, Recipe, Schedule
from vps_ros.learning.training import checkpoint
from vps_ros.learning.training.distributed import WorkerGroup, worker_group
from vps_ros.learning.training.initial_weights import completed, load_initial_weights
from vps_ros.learning.training.log import TensorBoard, import_writer, open_tensorboard
from vps_ros.learning.training.optimizer import Precision, device_of
from vps_ros.learning.training.validation import evaluate, predict, summary
from vps_ros.parallel import in_order

LOG = "log.jsonl"
LOST_STEPS = 100
"""Consecutive steps with a NaN or infinite gradient that end training; float16 skips some steps at its start."""
START_BATCHES = 8
"""Batches that estimate the statistics of batch normalisation, which a model file has folded into convolutions."""


def learning_rate(schedule: Schedule, share: float) -> float:
    """Linear warm-up, a constant part, then a cosine to 1 % of the peak; `share` in 0..1 is the progress of the run."""
    if share < schedule.warmup:
        return schedule.learning_rate * max(share / schedule.warmup, 0.01)
    before = schedule.warmup + schedule.constant
    part = max(share - before, 0.0) / max(1e-9, 1 - before)
    return schedule.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))))


def phase_of(schedule: Schedule, share: float) -> Phase:
    """The phase of the step at this progress of the run, in 0..1."""
    for phase in schedule.phases:
        if share < phase.until:
            return phase
    return schedule.phases[-1]


Clips = Sequence[Clip] | Mixture
"""Training data: clips of one data set, or a mixture."""


def moving_average(model: nn.Module, decay: float, step: int = 0) -> AveragedModel:
    """Exponential moving average of weights and buffers; the decay is smaller in the first steps of a run.

    Args:
        decay: largest decay.
        step: number of updates so far.
    """

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(values), 1 - min(decay, n / (n + 9)))
        else:
            torch._foreach_copy_(list(averages), list(values))

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True).eval().requires_grad_(False)
    # AveragedModel copies the model when the count is 0; the initial weights are part of the average here.
    average.n_averaged.fill_(step + 1)
    return average


class Meter:
    """Means of the loss terms since the last call of `means`, and seconds per step since the start."""

    def __init__(self, first: int) -> None:
        self._first, self._began = first, time.monotonic()
        self._sums: dict[str, Any] = {}
        self._count = 0

    def add(self, terms: dict[str, Any]) -> None:
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def means(self) -> dict[str, float]:
        means = {name: round(float(value) / self._count, 5) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def seconds_per_step(self, step: int) -> float:
        return (time.monotonic() - self._began) / (step - self._first)


class Run:
    """One training run and its folder. After `interrupt` it ends with the current step and a checkpoint."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, workers: WorkerGroup | None = None) -> None:
        """Raises InputError when the folder holds a run and `resume` is off, or another recipe's run and it is on."""
        self.folder, self.workers = folder, workers or WorkerGroup()
        self.path = folder / checkpoint.FILE
        content = checkpoint.load(self.path) if resume else None
        if not resume and self.path.exists():
            raise InputError(f"{folder}: already holds a run; pass --resume to continue it, or choose another folder")
        self._given = recipe
        self.recipe = recipe = self._resumed(recipe, content) if content else completed(recipe)
        s, d = recipe.schedule, recipe.data
        self.device = device_of(s.device)
        self.precision = Precision(s.precision, self.device)
        torch.set_num_threads(s.threads)
        torch.manual_seed(recipe.seed)
        self.kind = kind_for(recipe)
        if recipe.clip > 1:
            require_clips(self.kind, recipe)
        try:
            self.model = self.kind.build().to(self.device)
        except torch.OutOfMemoryError:
            raise InputError(
                f"{self.device}: not enough memory for the network; end other programs that use this device"
            ) from None
        self.average = moving_average(self.model, s.ema)
        self.optimizer = self.kind.optimizers(self.model)
        self.optimizer.join(self.workers)
        self.input_spec = self.kind.input_spec(d.size, d.keep_aspect)
        scale = Scale(d.size, d.keep_aspect)
        codes = labels_of(d).codes
        self.batch_spec = BatchSpec(
            d.taxonomy,
            self.kind.max_segments,
            self.kind.label_grid,
            self.kind.random_quarters,
            scale,
            d.gap,
            codes,
            recipe.clip,
        )
        self.step = 0
        self.log: list[dict[str, Any]] = []
        self.share = 0.0
        self._minutes_before, self._started = 0.0, time.monotonic()
        self._skipped = 0
        self.interrupt_requested, self.interrupted = False, False
        self.tensorboard: TensorBoard | None = None
        if content:
            self._restore(content)

    def load_initial_weights(self, clips: Clips, reporter: Reporter = SILENT) -> None:
        """Loads the weights that the recipe's `start` names, or the published weights of the backbone."""
        r, phase = self.recipe, self.recipe.schedule.phases[-1]
        if not r.start:
            self.kind.load_pretrained(self.model)
            self.average = moving_average(self.model, r.schedule.ema)
            return
        seeds = [(r.seed, i) for i in range(START_BATCHES)]
        batches = (training_batch(clips, phase.size, phase.pairs, self.batch_spec, r.augmentation, s) for s in seeds)
        fresh = load_initial_weights(self.model, self.kind, r, (normalised(b.images, self.input_spec) for b in batches))
        self.average = moving_average(self.model, r.schedule.ema)
        named = sorted({".".join(n.split(".")[:2]) for n in fresh})
        reporter.note(f"weights of {r.start}" + (f"; randomly initialised: {', '.join(named)}" if named else ""))

    def join(self, workers: WorkerGroup) -> None:
        """Makes this run the first of a group of workers."""
        self.workers = workers
        self.optimizer.join(workers)

    @property
    def minutes(self) -> float:
        """Training time in minutes, including earlier processes of the run."""
        return self._minutes_before + (time.monotonic() - self._started) / 60

    def _resumed(self, recipe: Recipe, content: dict[str, Any]) -> Recipe:
        """The recipe with the model of the checkpoint, which may hold entries that came from `start`."""
        mine = [Recipe.from_mapping(content[part], str(self.path)) for part in ("given", "recipe") if part in content]
        if recipe.name != mine[-1].name or recipe.model not in [r.model for r in mine]:
            raise InputError(f"{self.path}: was trained with another model; give the recipe of that run")
        return dataclasses.replace(recipe, model=mine[-1].model, learned_before=mine[-1].learned_before)

    def _restore(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        self.average.module.load_state_dict(content["ema"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.precision.load_state_dict(content.get("precision", {}))
        self.step, self.log = int(content["step"]), list(content["log"])
        self.average.n_averaged.fill_(self.step + 1)
        self._minutes_before = float(content.get("minutes", 0.0))
        self.share = self._share_of(self.step)

    def _share_of(self, step: int) -> float:
        """Progress in 0..1 before this step; in a run of `minutes`, by the clock of this process."""
        s = self.recipe.schedule
        return step / s.steps if s.steps else min(1.0, self.minutes / s.minutes)

    def save(self) -> None:
        checkpoint.save(
            self.path,
            given=self._given.to_mapping(),
            recipe=self.recipe.to_mapping(),
            step=self.step,
            model=self.model.state_dict(),
            ema=self.average.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            precision=self.precision.state_dict(),
            log=self.log,
            minutes=self.minutes,
        )

    def interrupt(self) -> None:
        self.interrupt_requested = True

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser. Returns the loss terms before weighting, as tensors that are not yet read.

        Raises InputError after LOST_STEPS consecutive steps with a NaN or infinite gradient.
        """
        s = self.recipe.schedule
        seed = (self.recipe.seed * 1009 + self.workers.rank) * 1_000_003 + self.step
        generator = torch.Generator(self.device).manual_seed(seed)
        # Layers that use the global generator, such as dropout, must draw the same values after resuming.
        torch.manual_seed(seed)
        parts: dict[str, Any] = {}
        for part in batch.parts(s.accumulate):
            part = part.to(self.device)
            with self.precision.forward():
                output = self.kind.forward(self.model, normalised(part.images, self.input_spec), part.choice)
            total, terms = self.kind.loss(self.model, output, part.targets, generator)
            self.precision.backward(total / s.accumulate)
            for name, value in (terms | {"total": total.detach()}).items():
                parts[name] = parts.get(name, 0.0) + value / s.accumulate
        # A signal may come at any moment: all workers stop after the step in which the request was exchanged.
        share = self._share_of(self.step)
        self.interrupted, first_share = self.workers.average_gradients(self.model, self.interrupt_requested, share)
        self.share = share if s.steps else first_share
        self.precision.unscale(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        if torch.isfinite(norm):
            self.optimizer.step(learning_rate(s, self.share))
        self._skipped = 0 if torch.isfinite(norm) else self._skipped + 1
        if self._skipped == LOST_STEPS:
            raise InputError(
                f"{self.folder}: the gradient was NaN or infinite in {LOST_STEPS} steps, up to step {self.step}; "
                "lower `learning_rate` or choose another `precision`; the last checkpoint is kept"
            )
        self.precision.update()
        self.optimizer.zero_grad()
        if not self.workers.rank:
            self.average.update_parameters(self.model)
        self.step += 1
        if s.steps:
            self.share = self.step / s.steps
        return parts | {"gradient": norm}

    def train(
        self,
        clips: Clips,
        validation: list[tuple[Clip, int]],
        reporter: Reporter = SILENT,
        others: Mapping[str, OtherFrames] = {},
    ) -> None:
        """Trains to the last step or until interrupted; both end with a checkpoint.

        Args:
            others: further validation frames, by the name of their data entry.

        Raises InputError when the GPU is out of memory; the last checkpoint is kept.
        """
        # Arithmetic with denormal numbers is many times slower. The flag is of the process, so it is reset afterwards.
        torch.set_flush_denormal(True)
        try:
            self._train(clips, validation, reporter, others)
        except torch.OutOfMemoryError:
            s, phase = self.recipe.schedule, phase_of(self.recipe.schedule, self.share)
            width, height = phase.size
            raise InputError(
                f"{self.device}: out of memory at step {self.step}, with {phase.pairs} pairs of {width}x{height} "
                f"in {s.accumulate} part(s); raise `accumulate`, or lower `pairs` or `size`"
            ) from None
        finally:
            torch.set_flush_denormal(False)

    def _train(
        self, clips: Clips, validation: list[tuple[Clip, int]], reporter: Reporter, others: Mapping[str, OtherFrames]
    ) -> None:
        s = self.recipe.schedule
        self.model.train()
        self.workers.broadcast_weights(self.model)
        self._started = time.monotonic()
        if self.workers.rank:
            for batch in self._batches(clips, self._steps()):
                self.learn(batch)
                if self.interrupted:
                    return
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = [entry for entry in self.log if entry["step"] <= self.step]
        (self.folder / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in self.log))
        saved, meter = time.monotonic(), Meter(self.step)
        left = s.steps - self.step if s.steps else None
        # Closed before an error is printed; otherwise the progress bar is drawn again after it.
        with closing(self._batches(clips, reporter.progress(self._steps(), "training", total=left))) as batches:
            for batch in batches:
                meter.add(self.learn(batch))
                last = self.share >= 1
                if self.step % s.log_every == 0 or last:
                    self._log_step(meter, reporter)
                if (validation or others) and (self.step % s.validate_every == 0 or last):
                    self._validate(validation, reporter, others)
                if last or self.interrupted or time.monotonic() - saved > 60 * s.save_minutes:
                    self.save()
                    saved = time.monotonic()
                if self.interrupted:
                    reporter.note(f"stopped at step {self.step}")
                    return

    def _log_step(self, meter: Meter, reporter: Reporter) -> None:
        s = self.recipe.schedule
        pace, means = meter.seconds_per_step(self.step), meter.means()
        self._write({"step": self.step, "lr": learning_rate(s, self.share), "seconds": round(pace, 4)} | means)
        left = pace * (s.steps - self.step) / 60 if s.steps else s.minutes - self.minutes
        terms = "  ".join(f"{label} {means[name]:.3f}" for label, name in self.kind.progress_terms.items())
        reporter.note(f"step {self.step}  loss {means['total']:.3f}  {terms}  {pace:.2f} s/step, {left:.0f} min left")

    def _validate(self, frames: list[tuple[Clip, int]], reporter: Reporter, others: Mapping[str, OtherFrames]) -> None:
        kind, network = self.kind, self.average.module
        if frames:
            predictions = predict(kind, network, frames, self.input_spec)
            report = evaluate(predictions, kind.thresholds, self.recipe.data.taxonomy, kind.activation)
            classes = {name: round(float(c.pq), 4) for name, c in report.classes.items() if c.pq == c.pq}
            self._write({"step": self.step, "validation": summary(report), "pq_of": classes})
            self._note_scores("validation", summary(report), reporter)
        for name, other in others.items():
            # At their own aspect ratio, as in training.
            spec = kind.input_spec(self.recipe.model.INPUT_SIZES.nearest(other.size), True)
            predictions = predict(kind, network, other.frames, spec)
            renamed = other.taxonomy, other.table
            scores = summary(
                evaluate(predictions, kind.thresholds, self.recipe.data.taxonomy, kind.activation, renamed)
            )
            if not other.taxonomy.thing_ids:
                scores = {"miou": scores["miou"]}
            self._write({"step": self.step, "data": name, "validation": scores})
            self._note_scores(name, scores, reporter)

    def _note_scores(self, what: str, scores: dict[str, float], reporter: Reporter) -> None:
        reporter.note(f"step {self.step}  {what} " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))

    def _write(self, entry: dict[str, Any]) -> None:
        self.log.append(entry)
        with open(self.folder / LOG, "a") as file:
            file.write(json.dumps(entry) + "\n")
        if self.tensorboard:
            self.tensorboard.add(entry)

    def _batches(self, clips: Clips, steps: Generator[int, None, None]) -> Generator[Batch, None, None]:
        """The batch of each step, prepared by threads; ends with `steps`, which it closes."""
        r, workers = self.recipe, self.workers

        def job(step: int) -> Callable[[], Batch]:
            # Not by the clock of this process: all workers must change the phase at the same step.
            share = step / r.schedule.steps if r.schedule.steps else self.share
            phase = phase_of(r.schedule, share)
            pairs, seed = phase.pairs // workers.size, (r.seed, step, workers.rank)
            return partial(training_batch, clips, phase.size, pairs, self.batch_spec, r.augmentation, seed, share)

        made = in_order(lambda work: work(), map(job, count(self.step)), r.schedule.loaders, ahead=2)
        with closing(made), closing(steps):
            for _, batch in zip(steps, made, strict=False):
                yield batch

    def _steps(self) -> Generator[int, None, None]:
        while self.share < 1:
            yield self.step


@contextmanager
def stop_on_signals(run: Run) -> Iterator[None]:
    """The first SIGTERM or SIGINT ends the run after its current step, a second one ends it at once."""
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        run.interrupt()
        signal.signal(number, before[number])

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def train(
    recipe: Recipe, folder: str | Path, resume: bool = False, reporter: Reporter = SILENT, tensorboard: bool = False
) -> Run:
    """Renders missing drives, trains, and returns the finished or interrupted run.

    Args:
        tensorboard: also write the log for TensorBoard, into the folder.
    """
    folder = Path(folder)
    run = Run(recipe, folder, resume)
    writer = import_writer() if tensorboard else None
    source = source_of(recipe.data)
    clips, validation, others = (
        source.training(reporter),
        source.validation(reporter),
        source.other_validation(reporter),
    )
    cv2.setNumThreads(1)
    if not resume:
        run.load_initial_weights(clips, reporter)
    size = recipe.schedule.workers if run.device.type == "cpu" else 1
    with worker_group(size, _train_worker, run.recipe, folder, resume) as workers, stop_on_signals(run):
        run.join(workers)
        with open_tensorboard(writer, folder, run.step) as run.tensorboard:
            run.train(clips, validation, reporter, others)
    return run


def _train_worker(workers: WorkerGroup, recipe: Recipe, folder: Path, resume: bool) -> None:
    cv2.setNumThreads(1)
    Run(recipe, folder, resume, workers).train(source_of(recipe.data).training(SILENT), [])
