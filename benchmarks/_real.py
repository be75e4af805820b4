"""Real images and labels, which may not be passed on: VPS_ROS_REALDATA names the folder that holds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
CLIP = "kitti_tracking_0002"
"""Folder of a clip of KITTI tracking."""


def real_data(*needed: str) -> tuple[Path, str]:
    """The folder, and why a benchmark that needs these paths in it cannot be measured; empty if all exist."""
    folder = Path(os.environ.get("VPS_ROS_REALDATA", ROOT.parent / "shared" / "realdata"))
    missing = next((folder / name for name in needed if not (folder / name).exists()), None)
    return folder, f"no {missing}; set VPS_ROS_REALDATA to the folder that holds it" if missing else ""


def read_image(path: Path) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3]."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


class KittiLabel(NamedTuple):
    """A label of KITTI tracking; `box` is x0 y0 x1 y1 in pixels, `distance` in metres."""

    frame: int
    track: int
    kind: str
    box: NDArray[np.float64]
    distance: float


def kitti_labels(clip: Path) -> Iterator[KittiLabel]:
    """The labels of a clip.

    A row of the file is: frame track type truncated occluded alpha x0 y0 x1 y1 height width length x y z turn.
    """
    text = (clip / "label_02" / f"{clip.name.rpartition('_')[2]}.txt").read_text()
    for row in map(str.split, text.splitlines()):
        if row:
            yield KittiLabel(int(row[0]), int(row[1]), row[2], np.array(row[6:10], float), float(row[15]))
