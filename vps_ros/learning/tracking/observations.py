"""Things that the segmenter sees in generated drives, who they are, and how alike their masks are between frames."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.flow import FlowHistory, FlowParameters
from vps_ros.frame import Frame, Segmentation
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.streets import Drive
from vps_ros.segmenters import SegmenterParameters, load_segmenter
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers.assignment import mutual_best
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.masks import MaskHistory
from vps_ros.trackers.similarity import iou, overlap

RATE = 100_000_000
"""Nanoseconds between frames, where a drive does not say."""
STEPS = (1, 2)
"""Frames back that a tracker compares with."""


@dataclass(frozen=True)
class Sighting:
    """The things of one frame, in the order of trackers/detections.py.

    Attributes:
        embeddings: float32 [K, D].
        who: int64 [K], true instance, 0 where none is known.
        dice: {steps: float64 [M, K]} with the M things that many frames before; absent where there were no things.
    """

    embeddings: NDArray[np.float32]
    who: NDArray[np.int64]
    dice: dict[int, NDArray[np.float64]]


@dataclass(frozen=True)
class SeenDrive:
    """A drive, what the segmenter made of it, and what that says about its objects."""

    drive: Drive
    segmentations: list[Segmentation]
    sightings: list[Sighting]

    def frames(self) -> list[Frame]:
        return [Frame(np.asarray(image), i * RATE) for i, image in enumerate(self.drive.image)]


def see(
    drives: Sequence[Drive], model: str, least_iou: float, processes: int, reporter: Reporter = SILENT
) -> list[SeenDrive]:
    """Runs the model over the drives, each in order."""
    parameters = SegmenterParameters(model=model, threads=1)
    load_segmenter(parameters)
    # Spawned: a forked copy of a process with torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    found: dict[int, SeenDrive] = {}
    with ProcessPoolExecutor(max(1, processes), mp_context=context) as pool:
        try:
            waiting = {pool.submit(_see, drive, parameters, least_iou): i for i, drive in enumerate(drives)}
            for future in reporter.progress(as_completed(waiting), "segmenting drives", total=len(waiting)):
                found[waiting[future]] = SeenDrive(drives[waiting[future]], *future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [found[i] for i in range(len(drives))]


def _see(drive: Drive, parameters: SegmenterParameters, least_iou: float) -> tuple[list[Segmentation], list[Sighting]]:
    cv2.setNumThreads(1)
    segmenter = load_segmenter(parameters)
    segmentations = [segmenter(np.ascontiguousarray(image)) for image in drive.image]
    return segmentations, sightings(drive, segmentations, least_iou)


def sightings(drive: Drive, segmentations: Sequence[Segmentation], least_iou: float) -> list[Sighting]:
    """The things of each frame; who they are says the true instance whose mask is theirs by more than `least_iou`.

    Each other's best, so that of two parts of one object only the larger bears its name.
    """
    pixels = MaskHistory(FlowHistory.of(FlowParameters()))
    found = []
    for i, segmentation in enumerate(segmentations):
        things = Detections.of(segmentation)
        pixels.push(Frame(np.ascontiguousarray(drive.image[i]), i * RATE), segmentation, things)
        # Some id: a frame whose things have none is not compared with.
        pixels.set_ids(np.arange(1, len(things) + 1))
        who = _who(np.asarray(drive.semantic[i]), np.asarray(drive.instance[i]), segmentation, things, least_iou)
        dice = {steps: pixels.flow_dice(steps) for steps in STEPS if pixels.before(steps) is not None}
        embeddings = things.embeddings if len(things) else segmentation.embeddings[:0]
        found.append(Sighting(embeddings, who, dice))
    return found


def _who(semantic, instance, segmentation: Segmentation, things: Detections, least_iou: float) -> NDArray[np.int64]:
    truth = np.where(np.isin(semantic, CITYSCAPES.thing_ids), instance, 0)
    names, true = np.unique(truth, return_inverse=True)
    if names[0] != 0:
        names, true = np.append(0, names), true + 1
    place = np.zeros(len(segmentation) + 1, np.int64)
    place[things.index + 1] = np.arange(1, len(things) + 1)
    joint = overlap(true.reshape(truth.shape), place[segmentation.map], len(names) - 1, len(things))
    name, thing = mutual_best(iou(joint), least_iou)
    who = np.zeros(len(things), np.int64)
    who[thing] = names[1:][name]
    return who
