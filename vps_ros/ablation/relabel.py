"""Identities of segments put into the overlap table of a frame, without looking at its pixels again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.overlaps import Classes, Overlaps, code_of
from vps_ros.frame import Segmentation, Track


def relabelled(
    classes: Classes, table: Overlaps, ids: NDArray[np.int64], class_ids: NDArray[np.int64] | None = None
) -> Overlaps:
    """The table with each thing's number in the map, its instance there, replaced by its identity.

    Args:
        table: truth against segments, as `vps_ros.ablation.sources.Shot` has it.
        ids: int64 [K], identity of each segment; those of stuff are ignored.
        class_ids: int64 [K], classes that the tracker holds things to be; without, they keep those of their segments.
    """
    number = np.where(classes.is_thing[table.pred_class], table.pred_instance, 0)
    instance = np.append(0, ids)[number]
    column = table.pred_class
    if class_ids is not None:
        column = np.where(number > 0, classes.column[np.append(0, class_ids)[number]], column)
    return Overlaps.add([Overlaps(table.gt, code_of(column, instance), table.count)])


def tracked(segmentation: Segmentation, tracks: Iterable[Track]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 [K] each: the track of each segment, 0 for stuff, and its class, for things that of the track."""
    ids, class_ids = np.zeros(len(segmentation), np.int64), segmentation.class_ids.astype(np.int64)
    for track in tracks:
        if track.index >= 0:
            ids[track.index], class_ids[track.index] = track.track_id, track.class_id
    return ids, class_ids


def true_identities(classes: Classes, table: Overlaps, count: int) -> NDArray[np.int64]:
    """int64 [K], code of the true thing that most pixels of each of `count` segments show; 0: none.

    Of several segments that show one thing, the largest part of it has its identity and the others have none, since no
    tracker gives one identity to two segments.
    """
    thing = classes.is_thing[table.gt_class] & (table.gt_instance > 0) & classes.is_thing[table.pred_class]
    number, code, pixels = table.pred_instance[thing], table.gt[thing], table.count[thing]
    # Where a key comes more than once in a dictionary, the last one stays: that of most pixels.
    order = np.lexsort((-number, -code, pixels)).tolist()
    shown = {int(number[i]): i for i in order}
    owner = {int(code[i]): int(number[i]) for i in order if shown[int(number[i])] == i}
    found = np.zeros(count, np.int64)
    found[np.array(list(owner.values()), np.int64) - 1] = list(owner)
    return found
