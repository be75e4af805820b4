"""MOTChallenge-STEP: coded and laid out as KITTI-STEP, with 7 classes of its own, of which person is a thing.

Source: the STEP benchmark (Weber et al., STEP: Segmenting and Tracking Every Pixel, NeurIPS 2021).
"""

from __future__ import annotations

from pathlib import Path

from vps_ros.datasets import kitti_step
from vps_ros.datasets.labels import VideoDataSet, Videos
from vps_ros.errors import InputError
from vps_ros.taxonomy import MOTCHALLENGE_STEP

SPLITS = {"train": ("0002", "0009"), "test": ("0001", "0007")}
"""The sequences of each split, each named as those of MOTChallenge."""


def read(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of a folder in any layout of KITTI-STEP, with split folders or without.

    Raises:
        InputError: as `kitti_step.list_maps`, or the folder has no sequence of the split.
    """
    try:
        videos = kitti_step.labelled(root, split, MOTCHALLENGE_STEP)
    except InputError:
        if split not in SPLITS:
            raise
        videos = {s: f for s, f in kitti_step.labelled(root, None, MOTCHALLENGE_STEP).items() if s in SPLITS[split]}
        if not videos:
            names = " and ".join(SPLITS[split])
            raise InputError(f"{root}: holds no sequence of split {split!r}, which are {names}") from None
    return videos


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """As `read`, with the camera images where they lie under the same ROOT."""
    return kitti_step.with_images(read(root, split), root, split)


DATA_SET = VideoDataSet(
    "motchallenge-step",
    MOTCHALLENGE_STEP,
    read_truth,
    read,
    kitti_step.prediction_writer,
    terms="MOTChallenge-STEP: CC BY-NC-SA 3.0, non-commercial",
)
