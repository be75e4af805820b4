"""The frames of lowest PQ as pictures: camera image, ground truth, and each prediction."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vps_ros.datasets.kitti_step import Sequences, list_images
from vps_ros.datasets.labels import ANY_SIZE, MinimumSize
from vps_ros.drawing.palette import paint_map
from vps_ros.errors import InputError
from vps_ros.evaluation.folders import FramePair, load_pair
from vps_ros.evaluation.page.markup import macro
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
    """

    panels: Mapping[str, NDArray[np.uint8]]
    caption: str


class ScoredFrame(NamedTuple):
    """A frame that was evaluated, and its PQ; NaN where nothing is labelled."""

    sequence: str
    frame: str
    pq: float


ScoredFrames = Sequence[ScoredFrame]
"""All frames of a prediction in the order of evaluation."""


def embed(pictures: Iterable[Picture]) -> Markup:
    """HTML that contains the images."""
    return macro("pictures", [(p.caption, [(n, _data_uri(i)) for n, i in p.panels.items()]) for p in pictures])


def lowest_frames(predictions: Mapping[str, ScoredFrames], most: int = MAX_PICTURES) -> list[tuple[str, str]]:
    """(sequence, frame) of the frames of lowest PQ by any prediction, in ascending order; at most one per INTERVAL."""
    lowest: dict[tuple[str, int], tuple[float, tuple[str, str]]] = {}
    for frames in predictions.values():
        counts: dict[str, int] = {}
        for sequence, frame, pq in frames:
            index = counts[sequence] = counts.get(sequence, -1) + 1
            interval = sequence, index // INTERVAL
            if pq == pq and pq < lowest.get(interval, (float("inf"),))[0]:
                lowest[interval] = pq, (sequence, frame)
    return [frame for _, frame in sorted(lowest.values())[:most]]


def lowest_pictures(
    predictions: Mapping[str, ScoredFrames],
    pairs: Mapping[str, Iterable[FramePair]],
    taxonomy: Taxonomy,
    gt_root: str | Path,
    split: str | None = None,
    smallest: MinimumSize = ANY_SIZE,
) -> list[Picture]:
    """The frames of lowest PQ of all predictions; the ground truth of each is shown once.

    Args:
        predictions: by name, of one ground truth.
        pairs: their maps, which are read again.
        taxonomy: classes and colours.
        gt_root: the folder of the data set, in which camera images are searched.
        split, smallest: as in the evaluation.
    """
    images = _list_images(gt_root, split)
    lowest = lowest_frames(predictions)
    pq = {name: {(s, f): value for s, f, value in frames if (s, f) in lowest} for name, frames in predictions.items()}
    found = {
        name: {key: (pair, pq[name][key]) for pair in frames if (key := (pair.sequence, pair.frame)) in lowest}
        for name, frames in pairs.items()
    }
    return [
        _picture({name: frames[key] for name, frames in found.items() if key in frames}, taxonomy, images, smallest)
        for key in lowest
    ]


def _picture(
    predictions: Mapping[str, tuple[FramePair, float]], taxonomy: Taxonomy, images: Sequences, smallest: MinimumSize
) -> Picture:
    """One frame, by the name of each prediction that has it."""
    pair = next(iter(predictions.values()))[0]
    gt, _ = load_pair(pair)
    panels = {"ground truth": paint_map(taxonomy, *smallest.void_small(*gt, taxonomy))}
    photo = pair.gt.image if pair.gt and pair.gt.image else images.get(pair.sequence, {}).get(pair.frame)
    camera = _read_camera(photo, panels["ground truth"].shape)
    if camera is not None:
        panels = {"camera": camera, **panels}
    for name, (one, pq) in predictions.items():
        label = "prediction" if len(predictions) == 1 else name
        panels[f"{label}, PQ {100 * pq:.1f}"] = paint_map(taxonomy, *load_pair(one)[1])
    return Picture(panels, f"Among the lowest PQ: {pair.name}")


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


def _read_camera(path: Path | None, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    image = cv2.imread(str(path)) if path else None
    return image[..., ::-1] if image is not None and image.shape == shape else None


def _data_uri(image: NDArray[np.uint8]) -> str:
    """The image as PNG or JPEG, whichever is smaller: PNG suits painted maps, JPEG photographs."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    png = cv2.imencode(".png", bgr)[1].tobytes()
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    kind, data = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
