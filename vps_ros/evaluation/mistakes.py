"""Marks the mistakes of a prediction in the image, for the viewer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import LabelMap
from vps_ros.drawing.views import FALSE, MISSED, SWITCHED, WRONG_CLASS
from vps_ros.evaluation.overlaps import Classes, code_of, column_of, overlaps
from vps_ros.evaluation.timelines import NO_TRACK, matched_tracks
from vps_ros.taxonomy import VOID_ID, Taxonomy

SWITCH_FRAMES = 10
"""Frames in which an object stays marked after it was matched with another track than before."""


class MistakeMarker:
    """Compares the frames of one sequence, in order, with their ground truth.

    Things are matched as in the timelines of the report: same class, IoU above 0.5. A switch is what IDSW counts.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._classes = Classes(taxonomy)
        self._track_of: dict[int, int] = {}
        self._marked: dict[int, int] = {}
        """Code of a true thing -> number of frames in which it stays marked as switched."""

    def mark(self, gt: LabelMap, pred: LabelMap) -> NDArray[np.uint8]:
        """uint8 [H, W] of MISTAKES, 0 where there is none and where the ground truth is void.

        Raises InputError when the sizes differ or a class is not in the taxonomy.
        """
        table = overlaps(self._classes, *gt, *pred)
        things, tracks = matched_tracks(self._classes, table)
        matched = {code_of(column_of(c), t) for c, t in zip(things.tolist(), tracks.tolist(), strict=True) if t >= 0}
        self._marked = {code: left - 1 for code, left in self._marked.items() if left > 1}
        missed = []
        for code, track in zip(things.tolist(), tracks.tolist(), strict=True):
            if track == NO_TRACK:
                missed.append(code)
                continue
            if self._track_of.get(code, track) != track:
                self._marked[code] = SWITCH_FRAMES
            self._track_of[code] = track
        labelled = gt.semantic != VOID_ID
        marks = np.where(labelled & (gt.semantic != pred.semantic), WRONG_CLASS, 0).astype(np.uint8)
        is_thing = self._classes.is_thing[table.pred_class] & (table.pred_instance != 0)
        unmatched = set(table.pred[is_thing].tolist()) - matched
        for codes, side, value in (
            (unmatched, pred, FALSE),
            (missed, gt, MISSED),
            (self._marked, gt, SWITCHED),
        ):
            marks[self._pixels(side, codes) & labelled] = value
        return marks

    def _pixels(self, labels: LabelMap, codes: object) -> NDArray[np.bool_]:
        wanted = np.fromiter(codes, np.int64)  # type: ignore[call-overload]
        column = self._classes.column[labels.semantic]
        return np.isin(code_of(column, labels.instance.astype(np.int64)), wanted)
