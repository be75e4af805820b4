"""`fleet adapt`, its part on the cluster: images for the statistics of the teacher, and every frame by both models."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.adaptation.select import Observed
from vps_ros.adaptation.steps import (
    count_frames,
    frames_at,
    image_name,
    labels_name,
    load_observed,
    observe_drive,
    save_observed,
    spread,
)
from vps_ros.config import Config
from vps_ros.fleet.portable import PortableConfig
from vps_ros.fleet.storage import Store
from vps_ros.fleet.work import Item, Job
from vps_ros.labelling.project import without_progress
from vps_ros.segmenters import load_segmenter

_MEASURES, _FRAMES, _SAMPLES = ".observed.npz", ".tracked.zip", ".sample.zip"


class Sample(Job):
    """Images of a bag, evenly spaced, for the statistics of a teacher: a ZIP file of PNG files.

    Args:
        images: of each bag, at most.
        topic: image topic, for bags with several.
    """

    name = "sample"
    endings = (_SAMPLES,)

    def __init__(self, images: int, topic: str | None = None) -> None:
        self._images, self._topic = images, topic

    def parameters(self) -> Mapping[str, Any]:
        return {"images": self._images, "topic": self._topic}

    def process(self, item: Item, folder: Path) -> dict[str, Any]:
        with (
            item.bag.reader(self._topic) as source,
            zipfile.ZipFile(folder / f"result{_SAMPLES}", "w") as archive,
        ):
            (indices,) = spread([count_frames(source)], self._images)
            for index, frame in frames_at(source, indices):
                archive.writestr(f"{index:06d}.png", cv2.imencode(".png", frame.image[..., ::-1])[1].tobytes())
        return {"images": len(indices)}


def sampled_in(store: Store, name: str) -> list[NDArray[np.uint8]]:
    """The images of `Sample` of a bag, uint8 [H, W, 3] RGB."""
    with zipfile.ZipFile(io.BytesIO(store.read(f"{name}{_SAMPLES}"))) as archive:
        files = [np.frombuffer(archive.read(file), np.uint8) for file in sorted(archive.namelist())]
    return [np.ascontiguousarray(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]) for file in files]


class Observe(Job):
    """Observes a bag, as `vps-ros adapt`: measures of each frame, and a ZIP file of images and the teacher's labels.

    Args:
        topic: image topic, for bags with several.
    """

    name = "observe"
    endings = (_MEASURES, _FRAMES)

    def __init__(self, student: Config, teacher: Config, topic: str | None = None) -> None:
        self._student, self._teacher, self._topic = PortableConfig(student), PortableConfig(teacher), topic

    def parameters(self) -> Mapping[str, Any]:
        return {"student": self._student.description, "teacher": self._teacher.description, "topic": self._topic}

    def prepare(self, threads: int) -> None:
        cv2.setNumThreads(threads)
        student, self._config = self._student.here(threads), self._teacher.here(threads)
        self._segmenter = load_segmenter(student.segmenter_parameters)
        load_segmenter(self._config.segmenter_parameters)

    def process(self, item: Item, folder: Path) -> dict[str, Any]:
        self._segmenter.reset()
        frames = folder / "frames"
        with item.bag.reader(self._topic) as source:
            seen = observe_drive(item.name, source, frames, self._segmenter, self._config, without_progress)
        save_observed(folder / f"result{_MEASURES}", seen)
        # Images are compressed already.
        with zipfile.ZipFile(folder / f"result{_FRAMES}", "w") as archive:
            for index in range(len(seen.flicker)):
                for name in (image_name(index), labels_name(index)):
                    archive.write(frames / name, name)
        return {"frames": len(seen.flicker)}


def observed_in(store: Store, name: str) -> Observed:
    """The measures of a bag."""
    return load_observed(io.BytesIO(store.read(f"{name}{_MEASURES}")))


def fetch_frames(store: Store, name: str, frames: Iterable[int], folder: Path) -> None:
    """Copies images and labels of some frames of a bag to this machine; the others are not read."""
    with store.open(f"{name}{_FRAMES}") as file, zipfile.ZipFile(file) as archive:
        for frame in frames:
            for part in (image_name(frame), labels_name(frame)):
                archive.extract(part, folder)
