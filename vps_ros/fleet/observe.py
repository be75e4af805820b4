"""`fleet adapt`, its part on the cluster: teacher and student run on every frame of each bag."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2

from vps_ros.adaptation.select import Observed
from vps_ros.adaptation.steps import image_name, labels_name, load_observed, observe_drive, save_observed
from vps_ros.config import Config
from vps_ros.fleet.portable import PortableConfig
from vps_ros.fleet.storage import Store
from vps_ros.fleet.work import Item, Job
from vps_ros.labelling.project import without_progress
from vps_ros.segmenters import load_segmenter

_MEASURES, _FRAMES = ".observed.npz", ".tracked.zip"


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
