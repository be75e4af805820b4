"""Detections of the segmenter in generated drives, their true objects, and mask similarities between frames."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.flow.flow import FlowParameters
from vps_ros.flow.history import FlowHistory
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
"""Nanoseconds between the frames of a drive."""
STEPS = (1, 2)
"""Distances in frames at which trackers compare masks."""


@dataclass(frozen=True)
class Observation:
    """The detections of one frame, in the order of trackers/detections.py.

    Attributes:
        embeddings: float32 [K, D].
        objects: int64 [K], id of the true object, 0 if none is known.
        dice: {steps: float64 [M, K]}, Dice with the M detections `steps` frames before; no entry if there were none.
    """

    embeddings: NDArray[np.float32]
    objects: NDArray[np.int64]
    dice: dict[int, NDArray[np.float64]]


@dataclass(frozen=True)
class SegmentedDrive:
    """A drive with the results of the segmenter."""

    drive: Drive
    segmentations: list[Segmentation]
    observations: list[Observation]

    def frames(self) -> list[Frame]:
        return [Frame(np.asarray(image), i * RATE) for i, image in enumerate(self.drive.image)]


def segment_drives(
    drives: Sequence[Drive], model: str, least_iou: float, processes: int, reporter: Reporter = SILENT
) -> list[SegmentedDrive]:
    """Runs the model on the frames of each drive in order."""
    parameters = SegmenterParameters(model=model, threads=1)
    load_segmenter(parameters)
    # Spawned: a process forked after torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    found: dict[int, SegmentedDrive] = {}
    with ProcessPoolExecutor(max(1, processes), mp_context=context) as pool:
        try:
            waiting = {pool.submit(_segment_drive, drive, parameters, least_iou): i for i, drive in enumerate(drives)}
            for future in reporter.progress(as_completed(waiting), "segmenting drives", total=len(waiting)):
                found[waiting[future]] = SegmentedDrive(drives[waiting[future]], *future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [found[i] for i in range(len(drives))]


def _segment_drive(
    drive: Drive, parameters: SegmenterParameters, least_iou: float
) -> tuple[list[Segmentation], list[Observation]]:
    cv2.setNumThreads(1)
    segmenter = load_segmenter(parameters)
    segmentations = [segmenter(np.ascontiguousarray(image)) for image in drive.image]
    return segmentations, observe(drive, segmentations, least_iou)


def observe(drive: Drive, segmentations: Sequence[Segmentation], least_iou: float) -> list[Observation]:
    """The detections of each frame with their true objects.

    A detection and an object correspond if their IoU is above `least_iou` and is the largest for both.
    """
    pixels = MaskHistory(FlowHistory.of(FlowParameters()))
    found = []
    for i, segmentation in enumerate(segmentations):
        if segmentation.embeddings is None:
            raise InputError("model: has no output query_embeddings, which training needs; use another model")
        things = Detections.of(segmentation)
        pixels.push(Frame(np.ascontiguousarray(drive.image[i]), i * RATE), segmentation, things)
        # Any ids: frames without ids are not compared.
        pixels.set_ids(np.arange(1, len(things) + 1))
        objects = _true_objects(
            np.asarray(drive.semantic[i]), np.asarray(drive.instance[i]), segmentation, things, least_iou
        )
        dice = {steps: pixels.flow_dice(steps) for steps in STEPS if pixels.before(steps) is not None}
        embeddings = things.embeddings if len(things) else segmentation.embeddings[:0]
        found.append(Observation(embeddings, objects, dice))
    return found


def _true_objects(
    semantic: NDArray[np.uint8],
    instance: NDArray[np.integer],
    segmentation: Segmentation,
    things: Detections,
    least_iou: float,
) -> NDArray[np.int64]:
    truth = np.where(np.isin(semantic, CITYSCAPES.thing_ids), instance, 0)
    names, true = np.unique(truth, return_inverse=True)
    if names[0] != 0:
        names, true = np.append(0, names), true + 1
    place = np.zeros(len(segmentation) + 1, np.int64)
    place[things.index + 1] = np.arange(1, len(things) + 1)
    joint = overlap(true.reshape(truth.shape), place[segmentation.map], len(names) - 1, len(things))
    name, thing = mutual_best(iou(joint), least_iou)
    objects = np.zeros(len(things), np.int64)
    objects[thing] = names[1:][name]
    return objects
