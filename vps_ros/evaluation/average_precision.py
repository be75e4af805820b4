"""AP and AR of YouTube-VIS, for tracks of masks that may overlap.

Yang et al., Video Instance Segmentation, ICCV 2019: COCO's average precision with videos instead of images. The IoU of
two tracks is the sum of their intersections over the sum of their unions, both over all frames of the video. Matching
and averaging are those of pycocotools.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.youtube_vis import ObjectTrack, ObjectVideo
from vps_ros.errors import InputError
from vps_ros.taxonomy import Taxonomy

SIZES = {"all": (0, 1e5**2), "small": (0, 128**2), "medium": (128**2, 256**2), "large": (256**2, 1e5**2)}
"""Range of the area of a track in pixels, inclusive: the mean over the frames in which its mask is not empty."""
MAX_PREDICTIONS = (1, 10, 100)
"""Numbers of predictions of highest score that are used in each video and class."""
_AP50, _AP75 = 0, 5
"""Indices of 0.5 and 0.75 among the IoU thresholds 0.5, 0.55, ... 0.95."""


class Precision(NamedTuple):
    """AP over the ten IoU thresholds and at two of them, AR with 1 and 10 predictions; NaN without a true track."""

    ap: float
    ap50: float
    ap75: float
    ar1: float
    ar10: float

    def to_json(self) -> dict:
        return {"AP": self.ap, "AP50": self.ap50, "AP75": self.ap75, "AR1": self.ar1, "AR10": self.ar10}


@dataclass(frozen=True)
class TrackPrecision:
    """AP and AR over videos, in 0..1.

    Attributes:
        total: means over the classes that have a true track.
        sizes: AP of tracks by their area: `small`, `medium` and `large`.
        classes: by name; only those that have a true track.
        videos, tracks, predictions: their numbers; crowds are no tracks.
    """

    taxonomy: str
    total: Precision
    sizes: Mapping[str, float]
    classes: Mapping[str, Precision]
    videos: int
    tracks: int
    predictions: int

    def to_json(self) -> dict:
        """The `--json` of `vps-ros evaluate --format youtube-vis`."""
        return {
            "protocol": "youtube-vis",
            **self.total.to_json(),
            **{f"AP_{size}": value for size, value in self.sizes.items()},
            "videos": self.videos,
            "tracks": self.tracks,
            "predictions": self.predictions,
            "per_class": {name: one.to_json() for name, one in self.classes.items()},
        }


class AveragePrecision:
    """Overlaps of the tracks of videos; no masks are kept.

    A prediction whose best match is a crowd is ignored. The IoU with a crowd is computed as with any other track.

    Raises InputError where pycocotools is not installed.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._library = _library()
        self._taxonomy = taxonomy
        self._videos: dict[int, _Video] = {}

    def update(self, truth: ObjectVideo, predicted: ObjectVideo) -> None:
        """Counts a video and the same video with predicted tracks; raises InputError for a video that was counted."""
        if truth.id in self._videos:
            raise InputError(f"video {truth.name} (id {truth.id}) is there twice; keep one")
        classes = [np.array([t.class_id for t in video.tracks], np.int64) for video in (predicted, truth)]
        iou = np.zeros((len(predicted.tracks), len(truth.tracks)))
        for class_id in np.intersect1d(*classes):
            d, g = (np.flatnonzero(side == class_id) for side in classes)
            tracks = [predicted.tracks[i] for i in d], [truth.tracks[i] for i in g]
            iou[np.ix_(d, g)] = _iou(self._library.masks, *tracks)
        true, found = ([_entry(i, track) for i, track in enumerate(video.tracks)] for video in (truth, predicted))
        self._videos[truth.id] = _Video(true, found, iou)

    def merge(self, other: AveragePrecision) -> None:
        """Adds other videos, in any order. Raises InputError for another taxonomy, or a video of both."""
        if other._taxonomy != self._taxonomy:
            raise InputError("evaluations with different taxonomies cannot be merged")
        if twice := self._videos.keys() & other._videos.keys():
            raise InputError(f"video {min(twice)} is in both evaluations; keep one")
        self._videos |= other._videos

    def result(self) -> TrackPrecision:
        """Raises InputError when no video was given."""
        if not self._videos:
            raise InputError("nothing to evaluate: no video was given")
        precision, recall = self._average()
        sizes, of_all = list(SIZES), list(SIZES).index("all")
        per_class = {
            info.name: _precision(precision[:, :, k, of_all], recall[:, k, of_all])
            for k, info in enumerate(sorted(self._taxonomy.classes, key=lambda c: c.id))
        }
        return TrackPrecision(
            taxonomy=self._taxonomy.name,
            total=_precision(precision[:, :, :, of_all], recall[:, :, of_all]),
            sizes={name: _mean(precision[..., sizes.index(name), -1]) for name in sizes if name != "all"},
            classes={name: one for name, one in per_class.items() if one.ar1 == one.ar1},
            videos=len(self._videos),
            tracks=sum(not track["iscrowd"] for video in self._videos.values() for track in video.truth),
            predictions=sum(len(video.predicted) for video in self._videos.values()),
        )

    def _average(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision [T, R, C, A, M] and recall [T, C, A, M]: IoU threshold, recall, class, SIZES, MAX_PREDICTIONS."""
        ids = sorted(self._videos)
        indexes = []
        # pycocotools prints its progress.
        with redirect_stdout(io.StringIO()):
            for side in ("truth", "predicted"):
                entries = [{**track, "image_id": i} for i in ids for track in getattr(self._videos[i], side)]
                index = self._library.index()
                index.dataset = {
                    "images": [{"id": i} for i in ids],
                    "categories": [{"id": c.id} for c in self._taxonomy.classes],
                    # From 1 on, because pycocotools takes a match with id 0 for none.
                    "annotations": [{**entry, "id": number} for number, entry in enumerate(entries, 1)],
                }
                index.createIndex()
                indexes.append(index)
            one = self._library.evaluation(*indexes, "bbox")
            one.overlaps = {i: video.iou for i, video in self._videos.items()}
            one.params.imgIds, one.params.catIds = ids, sorted(self._taxonomy.by_id)
            one.params.areaRng, one.params.areaRngLbl = [list(span) for span in SIZES.values()], list(SIZES)
            one.params.maxDets = list(MAX_PREDICTIONS)
            one.evaluate()
            one.accumulate()
        return one.eval["precision"], one.eval["recall"]


class _Video(NamedTuple):
    """True and predicted tracks as annotations without masks, and their IoU [D, G]; 0 for tracks of two classes."""

    truth: list[dict]
    predicted: list[dict]
    iou: NDArray[np.float64]


def _precision(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> Precision:
    """From [T, R, ..., M] and [T, ..., M]; -1 where there is no true track."""
    of_all = precision[..., MAX_PREDICTIONS.index(100)]
    return Precision(
        _mean(of_all),
        _mean(of_all[_AP50]),
        _mean(of_all[_AP75]),
        _mean(recall[..., MAX_PREDICTIONS.index(1)]),
        _mean(recall[..., MAX_PREDICTIONS.index(10)]),
    )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


class _Library(NamedTuple):
    """Of pycocotools: its functions of masks, the index of a data set, and the evaluation with the IoU of tracks."""

    masks: Any
    index: type
    evaluation: type


@cache
def _library() -> _Library:
    try:
        from pycocotools import mask
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError(f"AP and AR need pycocotools ({error}); pip install 'vps_ros[evaluate]'") from None

    class TrackEvaluation(COCOeval):
        overlaps: Mapping[int, NDArray[np.float64]]

        def computeIoU(self, video: int, category: int) -> NDArray[np.float64] | list:  # noqa: N802
            dt = sorted(self._dts[video, category], key=lambda d: -d["score"])[: MAX_PREDICTIONS[-1]]
            rows, columns = ([track["place"] for track in side] for side in (dt, self._gts[video, category]))
            return self.overlaps[video][np.ix_(rows, columns)] if rows and columns else []

    return _Library(mask, COCO, TrackEvaluation)


def _entry(place: int, track: ObjectTrack) -> dict:
    """A track as an annotation."""
    areas = [mask.area for mask in track.masks if mask is not None and mask.area]
    return {
        "place": place,
        "category_id": track.class_id,
        "iscrowd": int(track.crowd),
        "score": track.score,
        "area": sum(areas) / len(areas) if areas else 0.0,
    }


def _iou(library: Any, dt: Sequence[ObjectTrack], gt: Sequence[ObjectTrack]) -> NDArray[np.float64]:
    """IoU [D, G] of predicted and true tracks."""
    both = np.zeros((len(dt), len(gt)))
    for masks in zip(*(track.masks for track in (*dt, *gt)), strict=True):
        rows, columns = (
            [(i, mask.to_json(), mask.area) for i, mask in enumerate(side) if mask is not None and mask.area]
            for side in (masks[: len(dt)], masks[len(dt) :])
        )
        if rows and columns:
            (d, seen, area), (g, there, true_area) = zip(*rows, strict=True), zip(*columns, strict=True)
            iou = library.iou(list(map(_packed, seen)), list(map(_packed, there)), [0] * len(g))
            # pycocotools gives only the IoU; the intersection is an integer, so rounding restores it exactly.
            both[np.ix_(d, g)] += np.rint(iou * np.add.outer(area, true_area) / (1 + iou))
    pixels = [[sum(mask.area for mask in t.masks if mask is not None) for t in side] for side in (dt, gt)]
    union = np.add.outer(*pixels) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _packed(mask: dict) -> dict:
    return {**mask, "counts": mask["counts"].encode()}
