"""AP and AR of YouTube-VIS, for tracks of masks that may overlap.

Yang et al., Video Instance Segmentation, ICCV 2019: COCO's average precision with videos instead of images. The IoU of
two tracks is the sum of their intersections over the sum of their unions, both over all frames of the video. Matching
and averaging are those of pycocotools.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.rle import RunLengths
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
    """Matches of the tracks of videos; no masks are kept.

    A prediction whose best match is a crowd is ignored. The IoU with a crowd is computed as with any other track.

    Raises InputError where pycocotools is not installed.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._library = _library()
        self._taxonomy = taxonomy
        self._matches: dict[int, list[dict | None]] = {}
        self._tracks = self._predictions = 0

    def update(self, truth: ObjectVideo, predicted: ObjectVideo) -> None:
        """Counts a video and the same video with predicted tracks; raises InputError for a video that was counted."""
        if truth.id in self._matches:
            raise InputError(f"video {truth.name} (id {truth.id}) is there twice; keep one")
        self._matches[truth.id] = _match(self._library, self._taxonomy, truth, predicted)
        self._tracks += sum(not track.crowd for track in truth.tracks)
        self._predictions += len(predicted.tracks)

    def merge(self, other: AveragePrecision) -> None:
        """Adds other videos, in any order. Raises InputError for another taxonomy, or a video of both."""
        if other._taxonomy != self._taxonomy:
            raise InputError("evaluations with different taxonomies cannot be merged")
        if twice := self._matches.keys() & other._matches.keys():
            raise InputError(f"video {min(twice)} is in both evaluations; keep one")
        self._matches |= other._matches
        self._tracks += other._tracks
        self._predictions += other._predictions

    def result(self) -> TrackPrecision:
        """Raises InputError when no video was given."""
        if not self._matches:
            raise InputError("nothing to evaluate: no video was given")
        precision, recall = _average(self._library, self._taxonomy, self._matches)
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
            videos=len(self._matches),
            tracks=self._tracks,
            predictions=self._predictions,
        )


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
    """Classes of pycocotools: the index of a data set, and the evaluation with the IoU of tracks."""

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
        def computeIoU(self, video: int, category: int) -> NDArray[np.float64] | list:  # noqa: N802
            dt = sorted(self._dts[video, category], key=lambda d: -d["score"])[: MAX_PREDICTIONS[-1]]
            return _iou(mask, dt, self._gts[video, category])

    return _Library(COCO, TrackEvaluation)


def _match(library: _Library, taxonomy: Taxonomy, truth: ObjectVideo, predicted: ObjectVideo) -> list[dict | None]:
    """The matches of one video, by class and size, as pycocotools stores them."""
    sides = [[_entry(truth.id, i, t) for i, t in enumerate(video.tracks, 1)] for video in (truth, predicted)]
    # pycocotools prints its progress.
    with redirect_stdout(io.StringIO()):
        one = library.evaluation(*(_indexed(library, taxonomy, truth.id, side) for side in sides), "bbox")
        _set(one.params, taxonomy, [truth.id])
        one.evaluate()
    return one.evalImgs


def _average(
    library: _Library, taxonomy: Taxonomy, matches: Mapping[int, list[dict | None]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision [T, R, C, A, M] and recall [T, C, A, M]: IoU threshold, recall, class, SIZES, MAX_PREDICTIONS."""
    videos = sorted(matches)
    total = library.evaluation(iouType="bbox")
    _set(total.params, taxonomy, videos)
    total.evalImgs = [matches[v][k] for k in range(len(taxonomy) * len(SIZES)) for v in videos]
    total._paramsEval = total.params
    with redirect_stdout(io.StringIO()):
        total.accumulate()
    return total.eval["precision"], total.eval["recall"]


def _set(params: Any, taxonomy: Taxonomy, videos: list[int]) -> None:
    params.imgIds, params.catIds = videos, sorted(taxonomy.by_id)
    params.areaRng, params.areaRngLbl = [list(span) for span in SIZES.values()], list(SIZES)
    params.maxDets = list(MAX_PREDICTIONS)


def _entry(video: int, number: int, track: ObjectTrack) -> dict:
    """A track as an annotation. Ids start from 1, because pycocotools takes a match with id 0 for none."""
    masks = [mask if mask is not None and mask.area else None for mask in track.masks]
    areas = [mask.area for mask in masks if mask is not None]
    return {
        "id": number,
        "image_id": video,
        "category_id": track.class_id,
        "iscrowd": int(track.crowd),
        "score": track.score,
        "area": sum(areas) / len(areas) if areas else 0.0,
        "pixels": sum(areas),
        "masks": [None if mask is None else _rle(mask) for mask in masks],
    }


def _rle(mask: RunLengths) -> dict:
    packed = mask.to_json()
    return {**packed, "counts": packed["counts"].encode()}


def _indexed(library: _Library, taxonomy: Taxonomy, video: int, entries: list[dict]) -> Any:
    index = library.index()
    categories = [{"id": c.id, "name": c.name} for c in taxonomy.classes]
    index.dataset = {"images": [{"id": video}], "categories": categories, "annotations": entries}
    index.createIndex()
    return index


def _iou(library: Any, dt: list[dict], gt: list[dict]) -> NDArray[np.float64] | list:
    """IoU [D, G] of predicted and true tracks; an empty list where there are none."""
    if not dt or not gt:
        return []
    both = np.zeros((len(dt), len(gt)))
    for masks in zip(*(track["masks"] for track in (*dt, *gt)), strict=True):
        d = [i for i, mask in enumerate(masks[: len(dt)]) if mask]
        g = [i for i, mask in enumerate(masks[len(dt) :]) if mask]
        if d and g:
            seen = [masks[i] for i in d], [masks[len(dt) + i] for i in g]
            iou = library.iou(*seen, [0] * len(g))
            area = library.area(seen[0]).astype(float)[:, None] + library.area(seen[1])
            # pycocotools gives only the IoU; the intersection is an integer, so rounding restores it exactly.
            both[np.ix_(d, g)] += np.rint(iou * area / (1 + iou))
    union = np.array([d["pixels"] for d in dt])[:, None] + [g["pixels"] for g in gt] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)
