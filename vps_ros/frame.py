"""What flows through the house: a camera frame, its segmentation, and its panoptic frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

THING_BASE = 1000
"""segment_id of the first thing slot; smaller values are void (0) and stuff (1 + class)."""
STAGES = ("segment", "flow", "track", "other")
"""Parts of a step whose time is taken."""


@dataclass(frozen=True)
class Frame:
    """A camera image at one moment.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        stamp: nanoseconds since the epoch, as the camera's driver gave it.
        frame_id: coordinate frame of the camera, passed through unchanged.
    """

    image: NDArray[np.uint8]
    stamp: int
    frame_id: str = ""


@dataclass(frozen=True)
class Segmentation:
    """Segments of one frame, without identity, at camera resolution. K segments, arrays side by side.

    Attributes:
        map: unsigned integer [H, W]; 0 is void, k is segment k - 1 of the arrays below.
        class_ids: int32 [K], ids of the taxonomy.
        is_thing: bool [K]. Each stuff class occurs at most once.
        scores: float32 [K] in 0..1.
        areas: int64 [K], pixels of `map`.
        boxes: float32 [K, 4], x0 y0 x1 y1 in pixels of the camera, half-open (x1 - x0 is the width).
        embeddings: float32 [K, D] appearance, or None when the segmenter has none.
    """

    map: NDArray[np.unsignedinteger]
    class_ids: NDArray[np.int32]
    is_thing: NDArray[np.bool_]
    scores: NDArray[np.float32]
    areas: NDArray[np.int64]
    boxes: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.class_ids)


class TrackState(IntEnum):
    """Values of TrackedObject.state."""

    TENTATIVE = 0
    CONFIRMED = 1
    LOST = 2


class AssociatedBy(IntEnum):
    """Values of TrackedObject.associated_by: which evidence gave the object its identity in this frame."""

    NEW = 0
    PIXELS = 1
    MEMORY = 2
    INSTANCE = 3


class Track(NamedTuple):
    """One object as the tracker knows it after a frame (message TrackedObject).

    Attributes:
        track_id: 1 and up, never reused within a run.
        slot: small number that stays with the track; free again once the track is forgotten.
        index: segment of this frame's Segmentation (0-based), or -1 while the object is not seen.
        class_id: a thing class; that of the segment, or what the tracker holds the object to be after all it has seen.
        box: x0 y0 x1 y1 pixels; the predicted box while LOST.
        velocity: pixels per second of the box centre (x, y).
        first_seen, last_seen: nanoseconds.
        hits: frames in which the object was seen.
    """

    track_id: int
    slot: int
    index: int  # type: ignore[assignment]  # instead of tuple's method
    class_id: int
    score: float
    state: TrackState
    associated_by: AssociatedBy
    association_score: float
    box: tuple[float, float, float, float]
    velocity: tuple[float, float]
    area: int
    first_seen: int
    last_seen: int
    hits: int

    @property
    def segment_id(self) -> int:
        """Pixel value of the object in PanopticFrame.map; 0 while it is not seen."""
        return THING_BASE + self.slot if self.index >= 0 else 0


class Segment(NamedTuple):
    """What one segment_id of a panoptic map is (message PanopticSegment). track_id is 0 for stuff."""

    segment_id: int
    class_id: int
    is_thing: bool
    score: float
    area: int
    track_id: int


@dataclass(frozen=True)
class PanopticFrame:
    """A frame with identities: what the pipeline gives for each camera image.

    Attributes:
        map: uint16 [H, W] of segment_id: 0 void, 1 + class for stuff, THING_BASE + slot for things.
        segments: what each segment_id in `map` is.
        tracks: confirmed, tentative and remembered objects.
        sequence_id: grows by one where the tracks started afresh.
        milliseconds: time spent in each of STAGES.
    """

    stamp: int
    frame_id: str
    sequence_id: int
    map: NDArray[np.uint16]
    segments: tuple[Segment, ...]
    tracks: tuple[Track, ...]
    milliseconds: dict[str, float] = field(default_factory=dict, compare=False)
