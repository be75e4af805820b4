"""Video stitching: the tubes of consecutive clips that are one object, by their masks in the overlapping frames.

Source: Video-kMaX sections 3.1 and 3.2; Qiao et al., ViP-DeepLab, CVPR 2021, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vps_ros.clips import ClipSpec, Group
from vps_ros.frame import Frame, Segmentation
from vps_ros.label_maps import look_up
from vps_ros.trackers.assignment import mutual_best
from vps_ros.trackers.similarity import iou, overlap


class Stitcher:
    """Numbers the tubes of a stream: a tube that continues one of the clip before has its number.

    It keeps the segmentations of O frames.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self._spec = spec
        self._next = 1
        self.reset()

    def reset(self) -> None:
        """Forgets all masks. Numbers continue: none is used twice."""
        self._known: list[tuple[Frame, Segmentation]] = []

    def __call__(self, frames: Group[Frame], found: Sequence[Segmentation], least_iou: float) -> list[Segmentation]:
        """The segmentations of the new frames of a clip, with tubes that are numbered over the stream.

        Args:
            found: of each frame of the clip, with tubes from 0.
            least_iou: of two masks of one object.
        """
        pairs = [
            (before, after)
            for frame, after in zip(frames.items[: frames.new.start], found, strict=False)
            for known, before in self._known
            if known is frame
        ]
        numbers = match_tubes(pairs, least_iou)
        result = []
        for frame, segmentation in zip(frames.items[frames.new], found[frames.new], strict=True):
            assert segmentation.tubes is not None
            tubes = np.zeros(len(segmentation), np.int64)
            for row in np.flatnonzero(segmentation.is_thing).tolist():
                tube = int(segmentation.tubes[row])
                if tube not in numbers:
                    numbers[tube], self._next = self._next, self._next + 1
                tubes[row] = numbers[tube]
            result.append(replace(segmentation, tubes=tubes))
            self._known.append((frame, result[-1]))
        del self._known[: len(self._known) - self._spec.overlap]
        return result


def match_tubes(pairs: Sequence[tuple[Segmentation, Segmentation]], least_iou: float) -> dict[int, int]:
    """The tube of the clip before for each tube of a clip that continues it.

    Two tubes are one object if they have one class, each has its largest mask IoU with the other, and this exceeds
    `least_iou`. The IoU is over all overlapping frames. Only things are compared.

    Args:
        pairs: segmentations of each overlapping frame, as part of the clip before and of the clip.
    """
    if not pairs:
        return {}
    before, after = (_Tubes([pair[side] for pair in pairs]) for side in (0, 1))
    joint = np.zeros((len(before.numbers) + 1, len(after.numbers) + 1), np.int64)
    for a, b in pairs:
        joint += overlap(before.map(a), after.map(b), len(before.numbers), len(after.numbers))
    joint[0, 0] = 0
    similarity = iou(joint) * (before.classes[:, None] == after.classes)
    rows, columns = mutual_best(similarity, least_iou)
    return dict(zip(after.numbers[columns].tolist(), before.numbers[rows].tolist(), strict=True))


class _Tubes:
    """The tubes of things in several frames.

    Attributes:
        numbers: int64 [N], ascending.
        classes: int64 [N].
    """

    def __init__(self, frames: Sequence[Segmentation]) -> None:
        tubes = np.concatenate([f.tubes[f.is_thing] for f in frames if f.tubes is not None])
        classes = np.concatenate([f.class_ids[f.is_thing] for f in frames])
        self.numbers, first = np.unique(tubes, return_index=True)
        self.classes = classes[first].astype(np.int64)

    def map(self, frame: Segmentation) -> NDArray[np.uint16]:
        """uint16 [H, W]: 1 + the row of the tube of each pixel, 0 where there is none."""
        table = np.zeros(len(frame) + 1, np.uint16)
        rows = np.flatnonzero(frame.is_thing)
        assert frame.tubes is not None
        table[rows + 1] = 1 + np.searchsorted(self.numbers, frame.tubes[rows])
        return look_up(frame.map, table)
