"""Generated drives, rendered once and kept on disk; loading one afterwards is mapping its pages into memory."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.datasets.streets import SCENARIOS, drive
from vps_ros.errors import InputError
from vps_ros.learning.augment import (
    degrade,
    plain_view,
    random_colours,
    random_view,
    recolour,
    view_image,
    view_labels,
)
from vps_ros.learning.model import MASK_STRIDE
from vps_ros.learning.recipe import Augmentation, Data
from vps_ros.learning.targets import Targets, make_targets, stack
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.output import whole
from vps_ros.taxonomy import Taxonomy

PARTS = ("image", "semantic", "instance")
LARGEST_GAP = 3
"""Frames between the two of a pair (Video K-Net's window is 2; low frame rates move objects further)."""


@dataclass(frozen=True)
class Drive:
    """One drive: image uint8 [F, H, W, 3] RGB, semantic uint8 [F, H, W], instance uint16 [F, H, W]; mapped files."""

    name: str
    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


def render(folder: Path, scenario: str, seed: int, frames: int, size: tuple[int, int]) -> Path:
    """The folder of one drive, rendered unless it is there already; whole or not at all."""
    place = _place(folder, scenario, seed, frames, size)
    if place.is_dir():
        return place
    cv2.setNumThreads(1)
    w, h = size
    image = np.empty((frames, h, w, 3), np.uint8)
    semantic, instance = np.empty((frames, h, w), np.uint8), np.empty((frames, h, w), np.uint16)
    for i, f in enumerate(drive(scenario, seed=seed, frames=frames, size=size)):
        image[i], semantic[i], instance[i] = f.frame.image, f.semantic, f.instance
    with whole(place) as draft:
        draft.mkdir()
        for part, array in zip(PARTS, (image, semantic, instance), strict=True):
            np.save(draft / f"{part}.npy", array)
    return place


def _place(folder: Path, scenario: str, seed: int, frames: int, size: tuple[int, int]) -> Path:
    return folder / f"{scenario}-{seed}-{frames}-{size[0]}x{size[1]}"


def load(place: Path) -> Drive:
    """A rendered drive. Raises InputError when its files are damaged."""
    try:
        return Drive(place.name, *(np.load(place / f"{part}.npy", mmap_mode="r") for part in PARTS))
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: a rendered drive that cannot be read ({error}); delete this folder") from None


def training_drives(data: Data, voice: Voice = SILENT) -> list[Drive]:
    """Every training drive of the recipe, in a fixed order, rendered as needed."""
    return _drives(data, range(data.seed, data.seed + data.drives), data.frames, "training drives", voice)


def validation_drives(data: Data, voice: Voice = SILENT) -> list[Drive]:
    """Every validation drive of the recipe."""
    seeds = range(data.validation_seed, data.validation_seed + data.validation_drives)
    return _drives(data, seeds, data.frames, "validation drives", voice)


def _drives(data: Data, seeds: range, frames: int, label: str, voice: Voice) -> list[Drive]:
    for name in data.scenarios:
        if name not in SCENARIOS:
            raise InputError(f"data.scenarios: unknown scenario {name!r}; there are {', '.join(SCENARIOS)}")
    folder = Path(data.folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, scenario, seed, frames, data.size) for seed in seeds for scenario in data.scenarios]
    missing = [job for job in jobs if not _place(*job).is_dir()]
    if missing:
        # Spawned: a forked copy of a process with torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max(1, data.processes), mp_context=context) as pool:
            try:
                waiting = as_completed([pool.submit(render, *job) for job in missing])
                for future in voice.progress(waiting, f"rendering {label}", total=len(missing)):
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return [load(_place(*job)) for job in jobs]


@dataclass(frozen=True)
class Batch:
    """uint8 images [B, H, W, 3] and their targets; images 2i and 2i + 1 are a pair of one drive.

    `choice` (int64 [B, h, w], or None) says at which quarter of each cell the targets were read.
    """

    images: Tensor
    targets: Targets
    choice: Tensor | None = None


def training_batch(
    drives: list[Drive],
    size: tuple[int, int],
    pairs: int,
    rows: int,
    taxonomy: Taxonomy,
    options: Augmentation,
    seed: tuple[int, ...],
    quarters: bool = False,
) -> Batch:
    """The batch that belongs to `seed` (of the run, step): the same each time, so that resuming changes nothing.

    With `quarters`, labels are read at a random quarter of each cell, for a model with a detail branch.
    """
    rng = np.random.default_rng(seed)
    images, targets, choices = [], [], []
    for d in rng.integers(len(drives), size=pairs):
        one = drives[d]
        first = int(rng.integers(len(one.image)))
        gap = int(rng.integers(1, LARGEST_GAP + 1)) * (1 if rng.random() < 0.5 else -1)
        second = first + gap if 0 <= first + gap < len(one.image) else first - gap
        second = min(max(second, 0), len(one.image) - 1)
        source = (one.image.shape[2], one.image.shape[1])
        view = random_view(source, size, options, rng)
        colours = random_colours(options.colour, rng)
        apart = rng.random() < options.apart
        for f in (first, second):
            if apart and f == second:
                view, colours = random_view(source, size, options, rng), random_colours(options.colour, rng)
            image = view_image(np.asarray(one.image[f]), view)
            images.append(degrade(recolour(image, colours), options, rng))
            choice = rng.integers(4, size=(size[1] // MASK_STRIDE, size[0] // MASK_STRIDE)) if quarters else None
            labels = view_labels(np.asarray(one.semantic[f]), np.asarray(one.instance[f]), view, choice)
            targets.append(make_targets(*labels, taxonomy, rows))
            choices.append(choice)
    choice = torch.from_numpy(np.stack(choices)) if quarters else None
    return Batch(torch.from_numpy(np.stack(images)), stack(targets), choice)


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image at the network's size, as validation sees it."""
    source = (image.shape[1], image.shape[0])
    return np.ascontiguousarray(image) if source == size else view_image(image, plain_view(source, size))
