"""The frames that went worst, as pictures: camera, ground truth, and each prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.kitti_step import Sequences, list_images
from vps_ros.datasets.labels import ANY_SIZE, MinimumSize
from vps_ros.drawing.palette import paint_map
from vps_ros.errors import InputError
from vps_ros.evaluation.folders import FramePair, load_pair
from vps_ros.evaluation.page.entry import Picture
from vps_ros.taxonomy import Taxonomy

MOST = 6
"""Frames that a report shows."""
STRETCH = 10
"""Frames of a video of which it shows the worst at most: the next frame of a video mostly looks the same."""


class Judged(NamedTuple):
    """A frame that was evaluated, and its PQ; NaN where nothing is labelled."""

    sequence: str
    frame: str
    pq: float


Found = Sequence[Judged]
"""Every frame of a prediction in the order of evaluation."""


def worst_frames(predictions: Mapping[str, Found], most: int = MOST) -> list[tuple[str, str]]:
    """(sequence, frame) of the frames with the lowest PQ by any prediction, the lowest first; one of each STRETCH."""
    of_stretch: dict[tuple[str, int], tuple[float, tuple[str, str]]] = {}
    for found in predictions.values():
        seen: dict[str, int] = {}
        for sequence, frame, quality in found:
            index = seen[sequence] = seen.get(sequence, -1) + 1
            stretch = sequence, index // STRETCH
            if quality == quality and quality < of_stretch.get(stretch, (float("inf"),))[0]:
                of_stretch[stretch] = quality, (sequence, frame)
    return [frame for _, frame in sorted(of_stretch.values())[:most]]


def pictures(
    predictions: Mapping[str, Found],
    pairs: Mapping[str, Iterable[FramePair]],
    taxonomy: Taxonomy,
    gt_root: str | Path,
    split: str | None = None,
    smallest: MinimumSize = ANY_SIZE,
) -> list[Picture]:
    """The worst frames of all predictions; the truth of each is shown once.

    Args:
        predictions: by name, of one ground truth.
        pairs: their maps; gone through once more, since they may be too many to remember.
        taxonomy: classes and colours.
        gt_root: the data set's folder, beside whose maps camera images are looked for.
        split: as of the maps.
        smallest: as the frames were evaluated.
    """
    images = _images(gt_root, split)
    worst = worst_frames(predictions)
    quality = {n: {(s, f): pq for s, f, pq in found if (s, f) in worst} for n, found in predictions.items()}
    shown = {
        name: {key: (pair, quality[name][key]) for pair in frames if (key := (pair.sequence, pair.frame)) in worst}
        for name, frames in pairs.items()
    }
    return [_picture(key, shown, taxonomy, images, smallest) for key in worst]


def _picture(
    key: tuple[str, str],
    predictions: Mapping[str, Mapping[tuple[str, str], tuple[FramePair, float]]],
    taxonomy: Taxonomy,
    images: Sequences,
    smallest: MinimumSize,
) -> Picture:
    shown = {name: frames[key] for name, frames in predictions.items() if key in frames}
    pair = next(iter(shown.values()))[0]
    gt, _ = load_pair(pair)
    panels = {"ground truth": paint_map(taxonomy, *smallest.void_small(*gt, taxonomy))}
    photo = pair.gt.image if pair.gt and pair.gt.image else images.get(pair.sequence, {}).get(pair.frame)
    camera = _camera(photo, panels["ground truth"].shape)
    if camera is not None:
        panels = {"camera": camera, **panels}
    for name, (one, quality) in shown.items():
        what = "prediction" if len(predictions) == 1 else name
        panels[f"{what}, PQ {100 * quality:.1f}"] = paint_map(taxonomy, *load_pair(one)[1])
    return Picture(panels, f"Among the worst: {pair.name}")


def _images(root: str | Path, split: str | None) -> Sequences:
    """The camera images beside the ground truth; a report does without them where there are none."""
    folder = Path(root)
    for home in (folder, *folder.resolve().parents[:2]):
        if (home / "images").is_dir():
            try:
                return list_images(home, split if (home / "images" / (split or "")).is_dir() else None)
            except InputError:
                return {}
    return {}


def _camera(path: Path | None, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    image = cv2.imread(str(path)) if path else None
    return image[..., ::-1] if image is not None and image.shape == shape else None
