"""Overlap tables: how many pixels each ground-truth segment shares with each predicted one.

All metrics but VC are computed from these small tables, so the pixels of a frame are read once. The sum of the tables
of several frames is the table of their tubes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import ANY_SIZE, MinimumSize, id_range, listed
from vps_ros.errors import InputError
from vps_ros.label_maps import runs
from vps_ros.taxonomy import VOID_ID, Taxonomy

_INSTANCE_BITS = 32
_MAX_INSTANCE = (1 << _INSTANCE_BITS) - 1
_TABLE_MIN_CODES, _TABLE_MAX_VALUE = 500, 1 << 21
"""More codes than the first, all below the second, are found with a look-up table; otherwise by sorting."""
SHARE_SCALE = 1 << 64
"""Shares are summed as integer multiples of 1 / SHARE_SCALE: the sum of integers does not depend on their order."""


@dataclass(frozen=True)
class Classes:
    """The taxonomy as the metrics use it: columns 0..C-1 in the order of the taxonomy, column C for void.

    `smallest`: ground-truth things below that size are void.
    """

    taxonomy: Taxonomy
    smallest: MinimumSize = ANY_SIZE

    def __post_init__(self) -> None:
        if VOID_ID in self.taxonomy.by_id:
            raise InputError(
                f"taxonomy {self.taxonomy.name!r}: class id {VOID_ID} means void; give the class another id"
            )

    @property
    def void(self) -> int:
        return len(self.taxonomy)

    @cached_property
    def is_thing(self) -> NDArray[np.bool_]:
        """bool [C + 1]; False for void."""
        return np.append(self.taxonomy.isthing, False)

    @cached_property
    def are_streets(self) -> bool:
        """Whether the ids are those of the 19 street classes; some protocols name things among these."""
        return sorted(self.taxonomy.ids.tolist()) == list(range(19))

    @cached_property
    def column(self) -> NDArray[np.int64]:
        """int64, class id -> column, -1 for ids outside the taxonomy; the last entry stands for all larger ids."""
        table = np.full(max(VOID_ID, *self.taxonomy.by_id) + 2, -1, np.int64)
        table[self.taxonomy.ids] = np.arange(len(self.taxonomy))
        table[VOID_ID] = self.void
        return table


class SegmentPixels(NamedTuple):
    """The S segments of one side of an overlap table of K rows.

    Attributes:
        ids: int64 [S], codes, ascending.
        index: int64 [K], segment of each row.
        area: int64 [S], pixels.
    """

    ids: NDArray[np.int64]
    index: NDArray[np.int64]
    area: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int64], count: NDArray[np.int64]) -> SegmentPixels:
        """`codes` and `count` are int64 [K]: segment and pixels of each row."""
        ids, index = unique_inverse(codes)
        return cls(ids, index, sum_by_index(index, count, len(ids)))


@dataclass(frozen=True)
class Overlaps:
    """Pixel counts of segment pairs, int64 [K] each. Each pair occurs once; they are sorted by (gt, pred).

    Segments are given by their codes (`code_of`); stuff and void have instance 0.
    """

    gt: NDArray[np.int64]
    pred: NDArray[np.int64]
    count: NDArray[np.int64]

    @cached_property
    def gt_segments(self) -> SegmentPixels:
        """The ground-truth segments."""
        return SegmentPixels.of(self.gt, self.count)

    @cached_property
    def pred_segments(self) -> SegmentPixels:
        """The predicted segments."""
        return SegmentPixels.of(self.pred, self.count)

    @cached_property
    def gt_class(self) -> NDArray[np.int64]:
        return column_of(self.gt)

    @cached_property
    def pred_class(self) -> NDArray[np.int64]:
        return column_of(self.pred)

    @cached_property
    def gt_instance(self) -> NDArray[np.int64]:
        return instance_of(self.gt)

    @cached_property
    def pred_instance(self) -> NDArray[np.int64]:
        return instance_of(self.pred)

    @classmethod
    def add(cls, tables: Sequence[Overlaps]) -> Overlaps:
        """The table of several frames together, in which segments become tubes."""
        gt, pred, count = (np.concatenate([getattr(t, name) for t in tables]) for name in ("gt", "pred", "count"))
        return cls(*_sum_pairs(unique_inverse(gt), unique_inverse(pred), count))


Numbers = TypeVar("Numbers", int, NDArray[np.int64])
"""One integer or an array."""


def code_of(column: Numbers, instance: Numbers) -> Numbers:
    """The code of a segment: column * 2^32 + instance."""
    return column << _INSTANCE_BITS | instance


def column_of(code: Numbers) -> Numbers:
    """The column of a segment's class."""
    return code >> _INSTANCE_BITS


def instance_of(code: Numbers) -> Numbers:
    return code & _MAX_INSTANCE


def overlaps(
    classes: Classes,
    gt_semantic: NDArray[np.integer],
    gt_instance: NDArray[np.integer],
    pred_semantic: NDArray[np.integer],
    pred_instance: NDArray[np.integer],
    gt_where: object = "ground truth",
    pred_where: object = "prediction",
) -> Overlaps:
    """The overlap table of one frame.

    Args:
        classes: columns of the class ids.
        gt_semantic: integer [H, W], class ids; 255 is void.
        pred_semantic: as `gt_semantic`.
        gt_instance: integer [H, W], 0..2^32 - 1; those of stuff are ignored.
        pred_instance: as `gt_instance`.
        gt_where: name of the map in error messages.
        pred_where: likewise.

    Raises:
        InputError: the sizes differ, or an id is out of its range.
    """
    maps = gt_semantic, gt_instance, pred_semantic, pred_instance
    if gt_semantic.ndim != 2 or any(m.shape != gt_semantic.shape for m in maps):
        raise InputError(
            f"{pred_where}: its size {size_name(pred_semantic)} is not that of {gt_where}, {size_name(gt_semantic)}; "
            "evaluate at the size of the ground truth"
        )
    # Segments are long runs along the rows: only the pixels where an id changes are looked up.
    starts, lengths = runs(*maps)
    ids = [values.reshape(-1)[starts] for values in maps]
    gt, pred = _segments(classes, ids[0], ids[1], gt_where), _segments(classes, ids[2], ids[3], pred_where)
    return Overlaps(*_sum_pairs(gt, pred, lengths))


def _segments(
    classes: Classes, semantic: NDArray[np.integer], instance: NDArray[np.integer], where: object
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `unique_inverse`: the sorted codes of the segments, and for each run the index of its segment."""
    table = classes.column
    semantic = semantic.astype(np.int64)
    column = table[np.where((semantic < 0) | (semantic >= len(table)), len(table) - 1, semantic)]
    if column.size and column.min() < 0:
        raise InputError(
            f"{where}: class id {listed(np.unique(semantic[column < 0]))} is not in taxonomy {classes.taxonomy.name} "
            f"({id_range(classes.taxonomy)}); choose its taxonomy"
        )
    instance = np.where(classes.is_thing[column], instance, 0).astype(np.int64)
    if instance.size and not 0 <= instance.min() <= instance.max() <= _MAX_INSTANCE:
        raise InputError(f"{where}: instance ids must be in 0..{_MAX_INSTANCE}; renumber them")
    # Small codes, so that `unique_inverse` can use its look-up table.
    width = int(instance.max(initial=0)) + 1
    ids, index = unique_inverse(column * width + instance)
    return code_of(ids // width, ids % width), index


def _sum_pairs(
    gt: tuple[NDArray[np.int64], NDArray[np.int64]],
    pred: tuple[NDArray[np.int64], NDArray[np.int64]],
    count: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Codes and pixels of each pair that occurs; `gt` and `pred` as from `unique_inverse`."""
    gt_ids, gt_index = gt
    pred_ids, pred_index = pred
    pair_ids, pair_index = unique_inverse(gt_index * max(len(pred_ids), 1) + pred_index)
    total = sum_by_index(pair_index, count, len(pair_ids))
    return gt_ids[pair_ids // max(len(pred_ids), 1)], pred_ids[pair_ids % max(len(pred_ids), 1)], total


def unique_inverse(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct codes, sorted, and for each entry the index of its code among them."""
    if len(codes) > _TABLE_MIN_CODES and codes.min() >= 0 and (high := int(codes.max())) < _TABLE_MAX_VALUE:
        there = np.zeros(high + 1, bool)
        there[codes] = True
        ids = np.flatnonzero(there)
        index = np.empty(high + 1, np.int64)
        index[ids] = np.arange(len(ids))
        return ids, index[codes]
    ids = np.unique(codes)
    return ids, np.searchsorted(ids, codes)


def sum_by_index(index: NDArray[np.int64], count: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Sum of `count` for each index below `length`; exact up to 2^53 pixels, which doubles hold."""
    return np.bincount(index, count, length).astype(np.int64)


def nan_mean(values: NDArray[np.float64]) -> float:
    """Mean of the entries that are not NaN; NaN when all are."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if measured.size else float("nan")


def none_for_nan(value: float) -> float | None:
    """The value for JSON: None for NaN."""
    return None if value != value else float(value)


def size_name(values: NDArray) -> str:
    """WIDTHxHEIGHT of a map, for errors."""
    return "x".join(map(str, values.shape[::-1]))
