"""The training loop: steps, averaged weights, checkpoints, log; resumes where it stopped."""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning import checkpoint
from vps_ros.learning.drives import Batch, Drive, training_batch, training_drives, validation_drives
from vps_ros.learning.losses import total_loss
from vps_ros.learning.model import KMeansMaskTransformer
from vps_ros.learning.optimizer import Optimizers
from vps_ros.learning.parallel import Team, team_of
from vps_ros.learning.recipe import Phase, Recipe, Schedule
from vps_ros.learning.start import begin
from vps_ros.learning.validation import LIMITS, judge, predict, spread, summary
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.taxonomy import CITYSCAPES

LOG = "log.jsonl"
START_BATCHES = 8
"""That tell the statistics of normalisation which a model file has folded away."""
ISTHING = torch.from_numpy(CITYSCAPES.isthing)


def learning_rate(schedule: Schedule, share: float) -> float:
    """Linear warm-up, then a cosine down to 1 % of the peak at the end; `share` of the run is over."""
    if share < schedule.warmup:
        return schedule.learning_rate * max(share / schedule.warmup, 0.01)
    part = (share - schedule.warmup) / max(1e-9, 1 - schedule.warmup)
    return schedule.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))))


def phase_of(schedule: Schedule, share: float) -> Phase:
    """The phase that the step after this share of the run belongs to."""
    for phase in schedule.phases:
        if share < phase.until:
            return phase
    return schedule.phases[-1]


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


def normalised(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in -1..1, channels last in memory."""
    return (images.permute(0, 3, 1, 2).float() - 127.5) / 127.5


class Run:
    """One training run in its folder. `interrupt` makes it stop after the current step, with a checkpoint."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, team: Team | None = None) -> None:
        """Raises InputError when the folder holds a run and `resume` is off, or another recipe's run and it is on."""
        self.recipe, self.folder, self.team = recipe, folder, team or Team()
        self.path = folder / checkpoint.FILE
        s = recipe.schedule
        torch.set_num_threads(s.threads)
        torch.manual_seed(recipe.seed)
        self.model = KMeansMaskTransformer(recipe.model).to(memory_format=torch.channels_last)
        self.average = Average(self.model, s.ema)
        self.optimizer = Optimizers(self.model, s.learning_rate, s.weight_decay)
        self.optimizer.join(self.team)
        self.step, self.log = 0, []
        self.share = 0.0
        self._before, self._since = 0.0, time.monotonic()
        self.asked, self.interrupted = False, False
        if resume:
            self._restore()
        elif self.path.exists():
            raise InputError(f"{folder}: holds a run already; pass --resume to go on with it, or choose another folder")
        elif recipe.start and not Path(recipe.start).exists():
            raise InputError(f"{recipe.start}: no such file; the recipe's `start` names weights to begin with")

    def begin(self, drives: list[Drive], voice: Voice = SILENT) -> None:
        """Takes over the weights that the recipe's `start` names."""
        r = self.recipe
        size, pairs = r.schedule.phases[-1].size, r.schedule.phases[-1].pairs
        seeds = [(r.seed, i) for i in range(START_BATCHES)]
        batches = (training_batch(drives, size, pairs, r.model.queries, CITYSCAPES, r.augmentation, s) for s in seeds)
        fresh = begin(self.model, r.start, (normalised(b.images) for b in batches))
        self.average = Average(self.model, r.schedule.ema)
        named = sorted({".".join(n.split(".")[:2]) for n in fresh})
        voice.note(f"weights of {r.start}" + (f"; begin anew: {', '.join(named)}" if named else ""))

    def join(self, team: Team) -> None:
        """From now on this run is the first of a team."""
        self.team = team
        self.optimizer.join(team)

    @property
    def minutes(self) -> float:
        """Spent so far, in every part of the run."""
        return self._before + (time.monotonic() - self._since) / 60

    def _restore(self) -> None:
        content = checkpoint.load(self.path)
        mine = self.recipe.to_mapping()
        if any(content["recipe"].get(part) != mine[part] for part in ("model", "name")):
            raise InputError(f"{self.path}: was trained with another model; give the recipe it was started with")
        self.model.load_state_dict(content["model"])
        self.average.model.load_state_dict(content["ema"])
        self.optimizer.load_state_dict(content["optimizer"])
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
            recipe=self.recipe.to_mapping(),
            step=self.step,
            model=self.model.state_dict(),
            ema=self.average.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            log=self.log,
            minutes=self.minutes,
        )

    def interrupt(self) -> None:
        self.asked = True

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser; the loss terms before weighting, as tensors to be read when needed."""
        s = self.recipe.schedule
        generator = torch.Generator().manual_seed((self.recipe.seed * 1009 + self.team.rank) * 1_000_003 + self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=s.bfloat16):
            output = self.model(normalised(batch.images), batch.choice)
        total, parts = total_loss(output, batch.targets, ISTHING, self.recipe.losses, generator)
        total.backward()
        # A signal may come at any moment: the whole team stops after the step in which all have heard of it.
        share = self._share_of(self.step)
        self.interrupted, heard = self.team.mean_gradients(self.model, self.asked, share)
        self.share = share if s.steps else heard
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        if torch.isfinite(norm):
            self.optimizer.step(learning_rate(s, self.share))
        self.optimizer.zero_grad()
        if not self.team.rank:
            self.average.update(self.model, self.step)
        self.step += 1
        if s.steps:
            self.share = self.step / s.steps
        return parts | {"total": total.detach(), "gradient": norm}

    def train(self, drives: list[Drive], validation: list[tuple[Drive, int]], voice: Voice = SILENT) -> None:
        """Goes on to the last step, or until interrupted; a checkpoint is there either way."""
        # Numbers near zero cost many times what others do. The flag is the whole process's, so it is taken back.
        torch.set_flush_denormal(True)
        try:
            self._train(drives, validation, voice)
        finally:
            torch.set_flush_denormal(False)

    def _train(self, drives: list[Drive], validation: list[tuple[Drive, int]], voice: Voice) -> None:
        s, r = self.recipe.schedule, self.recipe
        self.model.train()
        self.team.same_weights(self.model)
        self._since = time.monotonic()
        if self.team.rank:
            for batch in self._batches(drives, self._steps()):
                self.learn(batch)
                if self.interrupted:
                    return
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = [entry for entry in self.log if entry["step"] <= self.step]
        (self.folder / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in self.log))
        saved = started = time.monotonic()
        first, sums, count = self.step, {}, 0
        left = s.steps - self.step if s.steps else None
        for batch in self._batches(drives, voice.progress(self._steps(), "training", total=left)):
            for name, value in self.learn(batch).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            last = self.share >= 1
            if self.step % s.log_every == 0 or last:
                means = {name: round(float(value) / count, 5) for name, value in sums.items()}
                elapsed = time.monotonic() - started
                pace = elapsed / (self.step - first)
                self._write({"step": self.step, "lr": learning_rate(s, self.share), "seconds": round(pace, 4)} | means)
                left = pace * (s.steps - self.step) / 60 if s.steps else s.minutes - self.minutes
                voice.note(
                    f"step {self.step}  loss {means['total']:.3f}  dice {means['final_dice']:.3f}  "
                    f"class {means['classes']:.3f}  {pace:.2f} s/step, {left:.0f} min left"
                )
                sums, count = {}, 0
            if validation and (self.step % s.validate_every == 0 or last):
                report = judge(predict(self.average.model, validation, r.data.size), LIMITS)
                scores = summary(report)
                classes = {name: round(float(c.pq), 4) for name, c in report.classes.items() if c.pq == c.pq}
                self._write({"step": self.step, "validation": scores, "pq_of": classes})
                voice.note(f"step {self.step}  validation " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))
            if last or self.interrupted or time.monotonic() - saved > 60 * s.save_minutes:
                self.save()
                saved = time.monotonic()
            if self.interrupted:
                voice.note(f"stopped at step {self.step}; go on with --resume")
                return

    def _write(self, entry: dict[str, Any]) -> None:
        self.log.append(entry)
        with open(self.folder / LOG, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def _batches(self, drives: list[Drive], steps: Iterable[int]) -> Iterator[Batch]:
        r, team = self.recipe, self.team

        def load(step: int, phase: Phase) -> Batch:
            pairs, quarters = phase.pairs // team.size, r.model.detail > 0
            seed = (r.seed, step, team.rank)
            return training_batch(
                drives, phase.size, pairs, r.model.queries, CITYSCAPES, r.augmentation, seed, quarters
            )

        def phase_at(step: int) -> Phase:
            # Not by this process's own clock: the whole team must change at the same step.
            return phase_of(r.schedule, step / r.schedule.steps if r.schedule.steps else self.share)

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(load, self.step, phase_at(self.step))
            for step in steps:
                batch = ahead.result()
                ahead = pool.submit(load, step + 1, phase_at(step + 1))
                yield batch

    def _steps(self) -> Iterator[int]:
        while self.share < 1:
            yield self.step


@contextmanager
def stops_on_signals(run: Run) -> Iterator[None]:
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


def train(recipe: Recipe, folder: str | Path, resume: bool = False, voice: Voice = SILENT) -> Run:
    """Renders the drives that are missing, trains, and returns the finished or interrupted run."""
    folder = Path(folder)
    run = Run(recipe, folder, resume)
    drives = training_drives(recipe.data, voice)
    validation = spread(validation_drives(recipe.data, voice), recipe.data.validation_frames)
    cv2.setNumThreads(1)
    if recipe.start and not resume:
        run.begin(drives, voice)
    with team_of(recipe.schedule.workers, _help, recipe, folder, resume) as team, stops_on_signals(run):
        run.join(team)
        run.train(drives, validation, voice)
    return run


def _help(team: Team, recipe: Recipe, folder: Path, resume: bool) -> None:
    cv2.setNumThreads(1)
    Run(recipe, folder, resume, team).train(training_drives(recipe.data), [])
