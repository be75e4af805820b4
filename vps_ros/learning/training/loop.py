"""The training loop: steps, averaged weights, checkpoints, log; resumes where it stopped."""

from __future__ import annotations

import copy
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
from torch import nn

from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.augmentation import Scale
from vps_ros.learning.data.batches import Batch, BatchSpec, training_batch
from vps_ros.learning.data.clips import Clip
from vps_ros.learning.data.entries import labels_of
from vps_ros.learning.data.mixture import Mixture
from vps_ros.learning.data.sources import OtherFrames, source_of
from vps_ros.learning.kinds import kind_for, normalised
from vps_ros.learning.recipe import Phase, Recipe, Schedule
from vps_ros.learning.training import checkpoint
from vps_ros.learning.training.distributed import Team, team_of
from vps_ros.learning.training.initial_weights import begin, completed
from vps_ros.learning.training.log import Board, board_of, import_writer
from vps_ros.learning.training.optimizer import Precision, device_of
from vps_ros.learning.training.validation import judge, predict, summary
from vps_ros.parallel import in_order

LOG = "log.jsonl"
LOST_STEPS = 100
"""In a row whose gradient is no number, after which training ends; float16 loses some at its start."""
START_BATCHES = 8
"""That tell the statistics of normalisation which a model file has folded away."""


def learning_rate(schedule: Schedule, share: float) -> float:
    """Linear warm-up, the peak, then a cosine down to 1 % of it at the end; `share` of the run is over."""
    if share < schedule.warmup:
        return schedule.learning_rate * max(share / schedule.warmup, 0.01)
    before = schedule.warmup + schedule.constant
    part = max(share - before, 0.0) / max(1e-9, 1 - before)
    return schedule.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))))


def phase_of(schedule: Schedule, share: float) -> Phase:
    """The phase that the step after this share of the run belongs to."""
    for phase in schedule.phases:
        if share < phase.until:
            return phase
    return schedule.phases[-1]


Clips = Sequence[Clip] | Mixture
"""What is learned from."""


class Average:
    """Exponential moving average of weights and buffers, quicker at the start of a run."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.model.state_dict(), model.state_dict()
        moving = [k for k, v in mine.items() if v.is_floating_point()]
        torch._foreach_lerp_([mine[k] for k in moving], [theirs[k] for k in moving], 1 - decay)
        for k in mine.keys() - set(moving):
            mine[k].copy_(theirs[k])


class Meter:
    """Means of the loss terms since they were last asked for, and seconds of a step since the beginning."""

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

    def pace(self, step: int) -> float:
        return (time.monotonic() - self._began) / (step - self._first)


class Run:
    """One training run in its folder. `interrupt` makes it stop after the current step, with a checkpoint."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, team: Team | None = None) -> None:
        """Raises InputError when the folder holds a run and `resume` is off, or another recipe's run and it is on."""
        self.folder, self.team = folder, team or Team()
        self.path = folder / checkpoint.FILE
        content = checkpoint.load(self.path) if resume else None
        if not resume and self.path.exists():
            raise InputError(f"{folder}: holds a run already; pass --resume to go on with it, or choose another folder")
        self._given = recipe
        self.recipe = recipe = self._as_before(recipe, content) if content else completed(recipe)
        s, d = recipe.schedule, recipe.data
        self.device = device_of(s.device)
        self.precision = Precision(s.precision, self.device)
        torch.set_num_threads(s.threads)
        torch.manual_seed(recipe.seed)
        self.kind = kind_for(recipe)
        try:
            self.model = self.kind.build().to(self.device)
        except torch.OutOfMemoryError:
            raise InputError(f"{self.device}: its memory does not hold the network; end what else uses it") from None
        self.average = Average(self.model, s.ema)
        self.optimizer = self.kind.optimizers(self.model)
        self.optimizer.join(self.team)
        self.input_spec = self.kind.input_spec(d.size, d.keep_aspect)
        scale = Scale(d.size, d.keep_aspect)
        codes = labels_of(d).codes
        self.wanted = BatchSpec(
            d.taxonomy, self.kind.max_segments, self.kind.label_grid, self.kind.random_quarters, scale, d.gap, codes
        )
        self.step, self.log = 0, []
        self.share = 0.0
        self._before, self._since = 0.0, time.monotonic()
        self._lost = 0
        self.asked, self.interrupted = False, False
        self.board: Board | None = None
        if content:
            self._restore(content)

    def begin(self, clips: Clips, reporter: Reporter = SILENT) -> None:
        """Takes over the weights that the recipe's `start` names, or those of a published backbone."""
        r, phase = self.recipe, self.recipe.schedule.phases[-1]
        if not r.start:
            self.kind.load_pretrained(self.model)
            self.average = Average(self.model, r.schedule.ema)
            return
        seeds = [(r.seed, i) for i in range(START_BATCHES)]
        batches = (training_batch(clips, phase.size, phase.pairs, self.wanted, r.augmentation, s) for s in seeds)
        fresh = begin(self.model, self.kind, r, (normalised(b.images, self.input_spec) for b in batches))
        self.average = Average(self.model, r.schedule.ema)
        named = sorted({".".join(n.split(".")[:2]) for n in fresh})
        reporter.note(f"weights of {r.start}" + (f"; begin anew: {', '.join(named)}" if named else ""))

    def join(self, team: Team) -> None:
        """From now on this run is the first of a team."""
        self.team = team
        self.optimizer.join(team)

    @property
    def minutes(self) -> float:
        """Spent so far, in every part of the run."""
        return self._before + (time.monotonic() - self._since) / 60

    def _as_before(self, recipe: Recipe, content: dict[str, Any]) -> Recipe:
        """The recipe with the model of the run, which may be the given one completed by its start."""
        mine = [Recipe.from_mapping(content[part], str(self.path)) for part in ("given", "recipe") if part in content]
        if recipe.name != mine[-1].name or recipe.model not in [r.model for r in mine]:
            raise InputError(f"{self.path}: was trained with another model; give the recipe it was started with")
        return dataclasses.replace(recipe, model=mine[-1].model, learned_before=mine[-1].learned_before)

    def _restore(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        self.average.model.load_state_dict(content["ema"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.precision.load_state_dict(content.get("precision", {}))
        self.step, self.log = int(content["step"]), list(content["log"])
        self._before = float(content.get("minutes", 0.0))
        self.share = self._share_of(self.step)

    def _share_of(self, step: int) -> float:
        """How much of the run is over before this step; where time counts, by the clock of this process."""
        s = self.recipe.schedule
        return step / s.steps if s.steps else min(1.0, self.minutes / s.minutes)

    def save(self) -> None:
        checkpoint.save(
            self.path,
            given=self._given.to_mapping(),
            recipe=self.recipe.to_mapping(),
            step=self.step,
            model=self.model.state_dict(),
            ema=self.average.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            precision=self.precision.state_dict(),
            log=self.log,
            minutes=self.minutes,
        )

    def interrupt(self) -> None:
        self.asked = True

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser; the loss terms before weighting, as tensors to be read when needed.

        Raises InputError when gradients have not been numbers for LOST_STEPS.
        """
        s = self.recipe.schedule
        seed = (self.recipe.seed * 1009 + self.team.rank) * 1_000_003 + self.step
        generator = torch.Generator(self.device).manual_seed(seed)
        # What draws without a generator, as dropout does, must be the same after resuming.
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
        # A signal may come at any moment: the whole team stops after the step in which all have heard of it.
        share = self._share_of(self.step)
        self.interrupted, heard = self.team.mean_gradients(self.model, self.asked, share)
        self.share = share if s.steps else heard
        self.precision.unscale(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        if torch.isfinite(norm):
            self.optimizer.step(learning_rate(s, self.share))
        self._lost = 0 if torch.isfinite(norm) else self._lost + 1
        if self._lost == LOST_STEPS:
            raise InputError(
                f"{self.folder}: the gradient was no number at the last {LOST_STEPS} steps, up to step {self.step}; "
                "lower `learning_rate` or choose another `precision`; the last checkpoint is kept"
            )
        self.precision.update()
        self.optimizer.zero_grad()
        if not self.team.rank:
            self.average.update(self.model, self.step)
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
        """Goes on to the last step, or until interrupted; a checkpoint is there either way.

        Args:
            others: validated on too, under their names.

        Raises InputError when the GPU's memory is full; the checkpoint before is kept.
        """
        # Numbers near zero cost many times what others do. The flag is the whole process's, so it is taken back.
        torch.set_flush_denormal(True)
        try:
            self._train(clips, validation, reporter, others)
        except torch.OutOfMemoryError:
            s, phase = self.recipe.schedule, phase_of(self.recipe.schedule, self.share)
            width, height = phase.size
            raise InputError(
                f"{self.device}: its memory is full at step {self.step}, with {phase.pairs} pairs of {width}x{height} "
                f"in {s.accumulate} part(s); raise `accumulate`, or lower `pairs` or `size`"
            ) from None
        finally:
            torch.set_flush_denormal(False)

    def _train(
        self, clips: Clips, validation: list[tuple[Clip, int]], reporter: Reporter, others: Mapping[str, OtherFrames]
    ) -> None:
        s = self.recipe.schedule
        self.model.train()
        self.team.same_weights(self.model)
        self._since = time.monotonic()
        if self.team.rank:
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
        # Closed before an error is told, lest the progress bar be drawn once more behind it.
        with closing(self._batches(clips, reporter.progress(self._steps(), "training", total=left))) as batches:
            for batch in batches:
                meter.add(self.learn(batch))
                last = self.share >= 1
                if self.step % s.log_every == 0 or last:
                    self._tell(meter, reporter)
                if (validation or others) and (self.step % s.validate_every == 0 or last):
                    self._validate(validation, reporter, others)
                if last or self.interrupted or time.monotonic() - saved > 60 * s.save_minutes:
                    self.save()
                    saved = time.monotonic()
                if self.interrupted:
                    reporter.note(f"stopped at step {self.step}; go on with --resume")
                    return

    def _tell(self, meter: Meter, reporter: Reporter) -> None:
        s = self.recipe.schedule
        pace, means = meter.pace(self.step), meter.means()
        self._write({"step": self.step, "lr": learning_rate(s, self.share), "seconds": round(pace, 4)} | means)
        left = pace * (s.steps - self.step) / 60 if s.steps else s.minutes - self.minutes
        told = "  ".join(f"{label} {means[name]:.3f}" for label, name in self.kind.progress_terms.items())
        reporter.note(f"step {self.step}  loss {means['total']:.3f}  {told}  {pace:.2f} s/step, {left:.0f} min left")

    def _validate(self, frames: list[tuple[Clip, int]], reporter: Reporter, others: Mapping[str, OtherFrames]) -> None:
        kind, network = self.kind, self.average.model
        if frames:
            predictions = predict(kind, network, frames, self.input_spec)
            report = judge(predictions, kind.thresholds, self.recipe.data.taxonomy, kind.activation)
            classes = {name: round(float(c.pq), 4) for name, c in report.classes.items() if c.pq == c.pq}
            self._write({"step": self.step, "validation": summary(report), "pq_of": classes})
            self._tell_scores("validation", summary(report), reporter)
        for name, other in others.items():
            # At their own aspect, as they are learned from.
            spec = kind.input_spec(self.recipe.model.INPUT_SIZES.nearest(other.size), True)
            predictions = predict(kind, network, other.frames, spec)
            renamed = other.taxonomy, other.table
            scores = summary(judge(predictions, kind.thresholds, self.recipe.data.taxonomy, kind.activation, renamed))
            if not other.taxonomy.thing_ids:
                scores = {"miou": scores["miou"]}
            self._write({"step": self.step, "data": name, "validation": scores})
            self._tell_scores(name, scores, reporter)

    def _tell_scores(self, what: str, scores: dict[str, float], reporter: Reporter) -> None:
        reporter.note(f"step {self.step}  {what} " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))

    def _write(self, entry: dict[str, Any]) -> None:
        self.log.append(entry)
        with open(self.folder / LOG, "a") as file:
            file.write(json.dumps(entry) + "\n")
        if self.board:
            self.board.add(entry)

    def _batches(self, clips: Clips, steps: Generator[int, None, None]) -> Generator[Batch, None, None]:
        """The batch of each step, made ahead by threads; ends with `steps`, which it closes."""
        r, team = self.recipe, self.team

        def job(step: int) -> Callable[[], Batch]:
            # Not by this process's own clock: the whole team must change at the same step.
            share = step / r.schedule.steps if r.schedule.steps else self.share
            phase = phase_of(r.schedule, share)
            pairs, seed = phase.pairs // team.size, (r.seed, step, team.rank)
            return partial(training_batch, clips, phase.size, pairs, self.wanted, r.augmentation, seed, share)

        made = in_order(lambda work: work(), map(job, count(self.step)), r.schedule.loaders, ahead=2)
        with closing(made), closing(steps):
            for _, batch in zip(steps, made, strict=False):
                yield batch

    def _steps(self) -> Generator[int, None, None]:
        while self.share < 1:
            yield self.step


@contextmanager
def stop_on_signals(run: Run) -> Iterator[None]:
    """SIGTERM and SIGINT end the run after its current step; a second one ends it at once."""
    before = {}

    def stop(number: int, frame: object) -> None:
        run.interrupt()
        signal.signal(number, before[number])

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    recipe: Recipe, folder: str | Path, resume: bool = False, reporter: Reporter = SILENT, tensorboard: bool = False
) -> Run:
    """Renders the drives that are missing, trains, and returns the finished or interrupted run.

    Args:
        tensorboard: write the log for TensorBoard too, into the folder.
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
        run.begin(clips, reporter)
    size = recipe.schedule.workers if run.device.type == "cpu" else 1
    with team_of(size, _help, run.recipe, folder, resume) as team, stop_on_signals(run):
        run.join(team)
        with board_of(writer, folder, run.step) as run.board:
            run.train(clips, validation, reporter, others)
    return run


def _help(team: Team, recipe: Recipe, folder: Path, resume: bool) -> None:
    cv2.setNumThreads(1)
    Run(recipe, folder, resume, team).train(source_of(recipe.data).training(SILENT), [])
