"""Generated drives for training: rendered once into files, which are memory-mapped afterwards; calibration frames."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets import GENERATION, SCENARIOS, drive
from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.clips import Clip, Picture, spread
from vps_ros.learning.data.entries import StreetsData
from vps_ros.taxonomy import CITYSCAPES

BALANCED = "balanced"
"""The scenario with more objects of rare classes."""
PARTS = ("image", "semantic", "instance")


@dataclass(frozen=True)
class Drive:
    """One drive: image uint8 [F, H, W, 3] RGB, semantic uint8 [F, H, W], instance uint16 [F, H, W]; memory-mapped."""

    name: str
    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.image)

    def read(self, index: int) -> Picture:
        """A frame; its arrays are read-only."""
        return Picture(*(np.asarray(part[index]) for part in (self.image, self.semantic, self.instance)))


def render(folder: Path, scenario: str, seed: int, frames: int, size: tuple[int, int]) -> Path:
    """The folder of one drive; rendered and written atomically unless it exists."""
    place = _place(folder, scenario, seed, frames, size)
    if place.is_dir():
        return place
    cv2.setNumThreads(1)
    w, h = size
    image = np.empty((frames, h, w, 3), np.uint8)
    semantic, instance = np.empty((frames, h, w), np.uint8), np.empty((frames, h, w), np.uint16)
    for i, f in enumerate(drive(scenario, seed=seed, frames=frames, size=size)):
        image[i], semantic[i], instance[i] = f.frame.image, f.semantic, f.instance
    with atomic_write(place) as draft:
        draft.mkdir()
        for part, array in zip(PARTS, (image, semantic, instance), strict=True):
            np.save(draft / f"{part}.npy", array)
    return place


def _place(folder: Path, scenario: str, seed: int, frames: int, size: tuple[int, int]) -> Path:
    return folder / f"{scenario}-{seed}-{frames}-{size[0]}x{size[1]}-g{GENERATION}"


def load(place: Path) -> Drive:
    """A rendered drive. Raises InputError when its files are damaged."""
    try:
        return Drive(place.name, *(np.load(place / f"{part}.npy", mmap_mode="r") for part in PARTS))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place}: the rendered drive cannot be read ({error}); delete this folder, it is rendered again"
        ) from None


def training_drives(data: StreetsData, reporter: Reporter = SILENT) -> list[Drive]:
    """All training drives of the recipe in a fixed order; missing ones are rendered."""
    usual = [(scenario, seed) for seed in range(data.seed, data.seed + data.drives) for scenario in data.scenarios]
    balanced = [(BALANCED, seed) for seed in range(data.seed, data.seed + data.balanced)]
    return _drives(data, usual + balanced, "training drives", reporter)


def validation_drives(data: StreetsData, reporter: Reporter = SILENT) -> list[Drive]:
    """All validation drives of the recipe."""
    seeds = range(data.validation_seed, data.validation_seed + data.validation_drives)
    wanted = [(scenario, seed) for seed in seeds for scenario in data.scenarios]
    return _drives(data, wanted, "validation drives", reporter)


def _drives(data: StreetsData, wanted: list[tuple[str, int]], label: str, reporter: Reporter) -> list[Drive]:
    for name in data.scenarios:
        if name not in SCENARIOS:
            raise InputError(f"data.scenarios: unknown scenario {name!r}; there are {', '.join(SCENARIOS)}")
    folder = Path(data.folder)
    folder.mkdir(parents=True, exist_ok=True)
    size = data.rendered if any(data.rendered) else data.size
    jobs = [(folder, scenario, seed, data.frames, size) for scenario, seed in wanted]
    missing = [job for job in jobs if not _place(*job).is_dir()]
    if missing:
        # Spawned: a process forked after torch has started threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max(1, data.processes), mp_context=context) as pool:
            try:
                waiting = as_completed([pool.submit(render, *job) for job in missing])
                for future in reporter.progress(waiting, f"rendering {label}", total=len(missing)):
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return [load(_place(*job)) for job in jobs]


class Streets:
    """The generated drives of a recipe."""

    taxonomy = CITYSCAPES

    def __init__(self, data: StreetsData) -> None:
        self._data = data

    def training(self, reporter: Reporter = SILENT) -> list[Drive]:
        return training_drives(self._data, reporter)

    def validation(self, reporter: Reporter = SILENT) -> list[tuple[Clip, int]]:
        return spread(validation_drives(self._data, reporter), self._data.validation_frames)


SIZE = (640, 192)
_SEED = 600_000
_EVERY = 6
"""Distance of the frames in a drive."""


def street_frames(scenarios: int = len(SCENARIOS), each: int = 4) -> Iterator[NDArray[np.uint8]]:
    """uint8 [192, 640, 3] RGB: `each` frames from a drive of each of the first `scenarios` scenarios, always the same.

    For calibration and checks of models; no model is trained or evaluated on them.
    """
    for i, name in enumerate(list(SCENARIOS)[:scenarios]):
        for k, street in enumerate(drive(name, seed=_SEED + i, frames=each * _EVERY, size=SIZE), 1):
            if k % _EVERY == 0:
                yield street.frame.image
