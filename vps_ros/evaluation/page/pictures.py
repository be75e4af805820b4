"""The frames of lowest PQ as pictures: camera image, ground truth, and each prediction."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vps_ros.datasets.kitti_step import Sequences, list_images
from vps_ros.datasets.labels import ANY_SIZE, MinimumSize
from vps_ros.drawing.colors import paint_map
from vps_ros.errors import InputError
from vps_ros.evaluation.page import macro
from vps_ros.evaluation.pairs import FramePair, load_pair
from vps_ros.taxonomy import Taxonomy

MAX_PICTURES = 6
INTERVAL = 10
"""Of so many consecutive frames at most one is shown, because consecutive frames look alike."""


@dataclass(frozen=True)
class Picture:
    """An example frame.

    Attributes:
        panels: RGB uint8 [H, W, 3], from top to bottom, by what they show: {"camera": ..., "ground truth": ...}.
        caption: which frame it is, and why it is shown.
        moment: link to it in a video; "" without.
    """

    panels: Mapping[str, NDArray[np.uint8]]
    caption: str
    moment: str = ""


Scores = Mapping[str, Mapping[str, float]]
"""Sequence -> frame -> its PQ; NaN where nothing is labelled. Frames in the order of evaluation."""


def embed(pictures: Iterable[Picture]) -> Markup:
    """HTML that contains the images."""
    return macro(
        "pictures", [(p.caption, p.moment, [(n, _data_uri(i)) for n, i in p.panels.items()]) for p in pictures]
    )


def moment(video: str, seconds: float) -> str:
    """The link to a moment of a video; browsers start to play there (W3C Media Fragments)."""
    return f"{quote(video)}#t={seconds:.3f}"


def lowest_frames(predictions: Mapping[str, Scores], most: int = MAX_PICTURES) -> list[tuple[str, str]]:
    """(sequence, frame) of the frames of lowest PQ by any prediction, in ascending order; at most one per INTERVAL."""
    lowest: dict[tuple[str, int], tuple[float, tuple[str, str]]] = {}
    for scores in predictions.values():
        for sequence, frames in scores.items():
            for index, (frame, pq) in enumerate(frames.items()):
                interval = sequence, index // INTERVAL
                if pq < lowest.get(interval, (math.inf,))[0]:
                    lowest[interval] = pq, (sequence, frame)
    return [frame for _, frame in sorted(lowest.values())[:most]]


def lowest_pictures(
    predictions: Mapping[str, Scores],
    pairs: Mapping[str, Iterable[FramePair]],
    taxonomy: Taxonomy,
    gt_root: str | Path,
    split: str | None = None,
    smallest: MinimumSize = ANY_SIZE,
    moments: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> list[Picture]:
    """The frames of lowest PQ of all predictions; the ground truth of each is shown once.

    Args:
        predictions: by name, of one ground truth.
        pairs: their maps, which are read again.
        taxonomy: classes and colours.
        gt_root: the folder of the data set, in which camera images are searched.
        split, smallest: as in the evaluation.
        moments: (sequence, frame) -> link to it in a video.
    """
    images = _list_images(gt_root, split)
    lowest = lowest_frames(predictions)
    found = {
        name: {key: pair for pair in frames if (key := (pair.sequence, pair.frame)) in lowest}
        for name, frames in pairs.items()
    }
    pictures = []
    for sequence, frame in lowest:
        shown = {name: frames[sequence, frame] for name, frames in found.items() if (sequence, frame) in frames}
        pair = next(iter(shown.values()))
        gt, _ = load_pair(pair)
        truth = paint_map(taxonomy, *smallest.void_small(*gt, taxonomy))
        photo = pair.gt.image if pair.gt and pair.gt.image else images.get(sequence, {}).get(frame)
        camera = cv2.imread(str(photo)) if photo else None
        panels = {"ground truth": truth}
        if camera is not None and camera.shape == truth.shape:
            panels = {"camera": camera[..., ::-1], **panels}
        for name, one in shown.items():
            label = "prediction" if len(shown) == 1 else name
            pq = predictions[name][sequence][frame]
            panels[f"{label}, PQ {100 * pq:.1f}"] = paint_map(taxonomy, *load_pair(one)[1])
        pictures.append(Picture(panels, f"Among the lowest PQ: {pair.name}", moments.get((sequence, frame), "")))
    return pictures


def _list_images(root: str | Path, split: str | None) -> Sequences:
    """The camera images beside the ground truth; empty where there are none."""
    folder = Path(root)
    for parent in (folder, *folder.resolve().parents[:2]):
        if (parent / "images").is_dir():
            try:
                return list_images(parent, split if (parent / "images" / (split or "")).is_dir() else None)
            except InputError:
                return {}
    return {}


def _data_uri(image: NDArray[np.uint8]) -> str:
    """The image as PNG or JPEG, whichever is smaller: PNG suits painted maps, JPEG photographs."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    png = cv2.imencode(".png", bgr)[1].tobytes()
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    kind, data = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
