"""Where pairs of frames with truth come from: what generated drives and data sets on disk have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vps_ros.learning import Reporter
from vps_ros.taxonomy import Taxonomy


class Picture(NamedTuple):
    """One labelled frame.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        semantic: uint8 [H, W], class ids, 255 void.
        instance: uint16 or int32 [H, W], instance ids, constant within the clip; 0 for stuff, void and crowds.
    """

    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.shape[1], self.image.shape[0]


class Clip(Protocol):
    """The labelled frames of one video in temporal order; a still image is a clip of one frame."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Picture:
        """Raises InputError when the frame's files are damaged."""


class Source(Protocol):
    """A data set: clips for training, frames for validation."""

    taxonomy: Taxonomy

    def training(self, reporter: Reporter) -> Sequence[Clip]:
        """In a fixed order; raises InputError when there are none."""

    def validation(self, reporter: Reporter) -> list[tuple[Clip, int]]:
        """Pairs of clip and frame index; empty if the recipe names no validation split."""


def spread(clips: Iterable[Clip], frames: int) -> list[tuple[Clip, int]]:
    """`frames` frames of each clip, evenly spread."""
    return [(c, int(i)) for c in clips for i in np.linspace(0, len(c) - 1, min(frames, len(c)))]
