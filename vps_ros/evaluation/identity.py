"""IDF1, HOTA, MOTA and id switches of things, by the reference implementation (TrackEval) on mask IoU.

IDF1: Ristani et al., ECCV Workshops 2016. CLEAR MOT (MOTA, IDSW): Bernardin and Stiefelhagen, 2008. HOTA: Luiten et
al., IJCV 2021; the mean over its 19 thresholds. IDF1 and CLEAR match masks with an IoU of at least 0.5, as MOTS does
(Voigtlaender et al., CVPR 2019).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.metric import Metric, Result, Rules, Score
from vps_ros.evaluation.overlaps import Classes, Overlaps, SegmentPixels, sum_by_index, unique_inverse

_NONE = -1
"""Code of what is not a thing with an identity."""
INSTALL = "pip install 'vps_ros[evaluate]', then pip install --no-deps trackeval"
ALL = ("HOTA", "CLEAR", "Identity")


@dataclass(frozen=True)
class IdentityQuality(Result):
    """Identity metrics of one sequence or several.

    Attributes:
        true_tubes: identities of the ground truth.
        detections: ground-truth masks, one for each thing and frame.
        counts: TrackEval's fields of "HOTA", "CLEAR" and "Identity", of those that were requested.
    """

    true_tubes: int
    detections: int
    counts: Mapping[str, Mapping[str, Any]]

    @property
    def idf1(self) -> float:
        """In 0..1, as are `hota`, `deta` and `assa`; NaN without a ground-truth mask."""
        return self._mean("Identity", "IDF1")

    @property
    def hota(self) -> float:
        return self._mean("HOTA", "HOTA")

    @property
    def deta(self) -> float:
        return self._mean("HOTA", "DetA")

    @property
    def assa(self) -> float:
        return self._mean("HOTA", "AssA")

    @property
    def mota(self) -> float:
        """At most 1, without a lower bound; NaN without a ground-truth mask."""
        return self._mean("CLEAR", "MOTA")

    @property
    def switches(self) -> int:
        """IDSW: how often a true thing is matched with another track than at its previous match."""
        return int(self.counts["CLEAR"]["IDSW"])

    def scores(self) -> tuple[Score, ...]:
        switches = "how often a true thing is matched with another track than at its previous match; fewer are better"
        return (
            Score("IDF1", self.idf1, "share of true and predicted masks that keep one identity"),
            Score("HOTA", self.hota, "higher order tracking accuracy of things"),
            Score("MOTA", self.mota, "1 - (missed masks + false masks + switches) / true masks"),
            Score("IDSW", self.switches, switches, is_count=True),
        )

    def _mean(self, metric: str, field: str) -> float:
        return float(np.mean(self.counts[metric][field])) if self.detections else float("nan")

    @classmethod
    def add(cls, parts: Iterable[IdentityQuality]) -> IdentityQuality:
        """Over several sequences, weighted by their masks. Raises InputError for none."""
        parts = tuple(parts)
        if not parts:
            raise InputError("identity metrics need at least one sequence")
        counts = {
            name: _metric(name).combine_sequences({str(i): p.counts[name] for i, p in enumerate(parts)})
            for name in parts[0].counts
        }
        return cls(sum(p.true_tubes for p in parts), sum(p.detections for p in parts), counts)


@dataclass(frozen=True)
class _Frame:
    """Codes of the true [G] and predicted [P] masks of a frame, and `iou` [N] of the `rows` and `columns` that overlap.

    `overlap_rank` [P] ranks the predicted masks by what they cover, independent of their codes; they are sorted by it.
    """

    gt: NDArray[np.int64]
    pred: NDArray[np.int64]
    overlap_rank: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    iou: NDArray[np.float64]

    def similarity(self) -> NDArray[np.float64]:
        matrix = np.zeros((len(self.gt), len(self.pred)))
        matrix[self.rows, self.columns] = self.iou
        return matrix


class Identity(Metric):
    """Overlaps of the masks of one sequence; no pixels are kept.

    Things of all classes are counted together, but only masks of one class are compared: a track that changes its class
    is another track, as in STQ. Crowds (true things with instance 0) and void are ignored, as is each predicted mask of
    which more than half lies on them. Predicted instance 0 is an identity like any other.

    Args:
        classes: decides what is a thing.
        any_class: compare across classes; a track keeps its identity when its class changes.
        metrics: a subset of ALL; HOTA takes most of the time.

    Raises InputError where TrackEval is not installed.
    """

    needs_order = True
    unmeasured = {"IDF1": None, "HOTA": None, "MOTA": None, "IDSW": None}

    def __init__(self, classes: Classes, any_class: bool = False, metrics: Iterable[str] = ALL) -> None:
        self._classes = classes
        self._result: IdentityQuality | None = None
        self._any_class = any_class
        self._metrics = {name: _metric(name) for name in metrics}
        self._frames: list[_Frame] = []

    @classmethod
    def create(cls, classes: Classes, rules: Rules) -> Identity | None:
        return cls(classes) if available() else None

    def update(self, frame: Overlaps) -> None:
        """Counts the next frame by its overlap table."""
        self._result = None
        thing = self._classes.is_thing
        gt_thing, pred_thing = thing[frame.gt_class], thing[frame.pred_class]
        crowd = gt_thing & (frame.gt_instance == 0)
        ignored = crowd | (frame.gt_class == self._classes.void)
        track = frame.pred_instance if self._any_class else frame.pred
        gt_ids, gt_at, gt_area = SegmentPixels.of(np.where(gt_thing & ~crowd, frame.gt, _NONE), frame.count)
        pred_ids, pred_at, pred_area = SegmentPixels.of(np.where(pred_thing, track, _NONE), frame.count)
        lost = sum_by_index(pred_at, np.where(ignored, frame.count, 0), len(pred_ids))
        gt_kept, pred_kept = gt_ids != _NONE, (pred_ids != _NONE) & (2 * lost <= pred_area)
        pairs = gt_kept[gt_at] & pred_kept[pred_at]
        if not self._any_class:
            pairs &= frame.gt_class == frame.pred_class
        # With `any_class`, a track of several classes overlaps one true thing in several rows of the table.
        both = np.zeros((len(gt_ids), len(pred_ids)), np.int64)
        np.add.at(both, (gt_at[pairs], pred_at[pairs]), frame.count[pairs])
        both = both[np.ix_(gt_kept, pred_kept)]
        g, p = np.nonzero(both)
        iou = both[g, p] / (gt_area[gt_kept][g] + pred_area[pred_kept][p] - both[g, p])
        covers = np.column_stack((pred_area[pred_kept], both.T))
        overlap_rank = np.unique(covers, axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(overlap_rank, kind="stable")
        self._frames.append(
            _Frame(gt_ids[gt_kept], pred_ids[pred_kept][order], overlap_rank[order], g, np.argsort(order)[p], iou)
        )

    def extend(self, later: Identity) -> None:
        self._result = None
        self._frames += later._frames

    def finish(self) -> None:
        self.result()
        self._frames, self._metrics = [], {}

    def result(self) -> IdentityQuality:
        if self._result is None:
            data = self._data()
            counts = {name: metric.eval_sequence(data) for name, metric in self._metrics.items()}
            self._result = IdentityQuality(data["num_gt_ids"], data["num_gt_dets"], counts)
        return self._result

    @classmethod
    def total(cls, sequences: Sequence[Identity]) -> IdentityQuality:
        return IdentityQuality.add(one.result() for one in sequences)

    def _data(self) -> dict[str, Any]:
        """The input of TrackEval's metrics."""
        empty = np.zeros(0, np.int64)
        gt_names, gt_ids = unique_inverse(np.concatenate([empty, *(f.gt for f in self._frames)]))
        pred_names, pred_ids = unique_inverse(np.concatenate([empty, *(f.pred for f in self._frames)]))
        pred_ids = self._renumbered(len(pred_names), pred_ids)
        return {
            "num_timesteps": len(self._frames),
            "num_gt_ids": len(gt_names),
            "num_tracker_ids": len(pred_names),
            "num_gt_dets": len(gt_ids),
            "num_tracker_dets": len(pred_ids),
            "gt_ids": np.split(gt_ids, np.cumsum([len(f.gt) for f in self._frames])[:-1]),
            "tracker_ids": np.split(pred_ids, np.cumsum([len(f.pred) for f in self._frames])[:-1]),
            "similarity_scores": [f.similarity() for f in self._frames],
        }

    def _renumbered(self, tracks: int, pred_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers the tracks by what they cover in which frame, so that ties do not depend on the predicted ids."""
        seen: list[list[tuple[int, int]]] = [[] for _ in range(tracks)]
        overlap_rank = ((t, value) for t, frame in enumerate(self._frames) for value in frame.overlap_rank.tolist())
        for track, what in zip(pred_ids.tolist(), overlap_rank, strict=True):
            seen[track].append(what)
        place = np.empty(tracks, np.int64)
        place[sorted(range(tracks), key=seen.__getitem__)] = np.arange(tracks)
        return place[pred_ids]


def available() -> bool:
    """Whether TrackEval is installed."""
    return find_spec("trackeval") is not None


@cache
def _metric(name: str) -> Any:
    """TrackEval's metric of that name."""
    try:
        # On import it prints which of its data sets lack a library; none of them is used here.
        with redirect_stdout(io.StringIO()):
            from trackeval import metrics
    except ImportError as error:
        raise InputError(f"IDF1, HOTA and MOTA need TrackEval ({error}); {INSTALL}") from None
    return getattr(metrics, name)() if name == "HOTA" else getattr(metrics, name)({"PRINT_CONFIG": False})
