"""Data types of the pipeline: a camera frame, its segmentation, and its panoptic frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vps_ros.errors import InputError
from vps_ros.frame_3d import Objects3D
from vps_ros.label_maps import look_up
from vps_ros.taxonomy import VOID_ID, Taxonomy

THING_BASE = 1000
"""segment_id of the first thing slot; smaller values are void (0) and stuff (1 + class)."""
STAGES = ("segment", "flow", "track", "other")
"""Parts of a step whose time is measured."""


@dataclass(frozen=True)
class Frame:
    """A camera image at one moment.

    The order of the channels cannot be checked. Images from OpenCV (`cv2.imread`, `cv2.VideoCapture`) are BGR: use
    `Frame.from_bgr` for them.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        stamp: int, nanoseconds of any clock; only differences between frames are used.
        frame_id: coordinate frame of the camera, passed through unchanged.
    """

    image: NDArray[np.uint8]
    stamp: int
    frame_id: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.stamp, np.integer):
            # Differences of unsigned or short integers would overflow.
            object.__setattr__(self, "stamp", int(self.stamp))

    @classmethod
    def from_bgr(cls, image: NDArray[np.uint8], stamp: int, frame_id: str = "") -> Frame:
        """The frame of a BGR image as OpenCV reads it, uint8 [H, W, 3]; raises InputError for any other array."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"from_bgr: image is {image.dtype} {list(image.shape)}; give uint8 [height, width, 3]")
        return Frame(np.ascontiguousarray(image[..., ::-1]), stamp, frame_id)


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
        tubes: int64 [K], number of the tube of each segment, for frames that were segmented as a clip: things with the
            same number are one object. From 0 within one clip; the pipeline numbers them from 1 over the complete
            stream, 0 for stuff. None for a frame that was segmented alone.
    """

    map: NDArray[np.unsignedinteger]
    class_ids: NDArray[np.int32]
    is_thing: NDArray[np.bool_]
    scores: NDArray[np.float32]
    areas: NDArray[np.int64]
    boxes: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None = None
    tubes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.class_ids)


class TrackState(IntEnum):
    """Values of TrackedObject.state."""

    TENTATIVE = 0
    CONFIRMED = 1
    LOST = 2


class AssociatedBy(IntEnum):
    """Values of TrackedObject.associated_by: the kind of comparison that gave the object its identity."""

    NEW = 0
    PIXELS = 1
    MEMORY = 2
    INSTANCE = 3


class Track(NamedTuple):
    """One object as the tracker knows it after a frame (message TrackedObject).

    `track_id` is the identity. `segment_id` is the pixel value of the object in PanopticFrame.map of the same frame.
    `slot` and `index` are for trackers; programs that read results do not need them.

    Attributes:
        track_id: 1 and up, never reused within a run.
        slot: segment_id - 1000 while the object is seen; reused only after the track is removed.
        index: row of the object in PanopticFrame.segments and embeddings (0-based), or -1 while it is not seen.
        class_id: a thing class: that of the segment, or one that the tracker chose from all frames so far.
        score: class score of the segment in 0..1; of the last one seen while LOST.
        state: TENTATIVE and CONFIRMED objects are seen in this frame, LOST ones are not.
        associated_by: how the identity was found when the object was last seen.
        association_score: similarity or probability of that association in 0..1; 0 for a new object.
        box: x0 y0 x1 y1 in pixels, half-open (x1 - x0 is the width); the predicted box while LOST.
        velocity: pixels per second of the box centre (x, y).
        area: pixels; those of the last segment seen while LOST.
        first_seen, last_seen: stamps of frames, nanoseconds.
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
    """One segment of a panoptic map (message PanopticSegment).

    Attributes:
        segment_id: pixel value in PanopticFrame.map: 1 + class for stuff, 1000 and up for things.
        class_id: id in the taxonomy.
        is_thing: True for one object (thing), False for all pixels of a class without objects (stuff).
        score: class score in 0..1.
        area: pixels.
        track_id: identity of the object; 0 for stuff.
    """

    segment_id: int
    class_id: int
    is_thing: bool
    score: float
    area: int
    track_id: int


@dataclass(frozen=True)
class PanopticFrame:
    """A frame with identities: the result of OnlinePanoptic.step. H and W are those of the camera image.

    Attributes:
        stamp, frame_id: those of the Frame.
        sequence_id: increases by one whenever all tracks are removed.
        map: uint16 [H, W] of segment_id: 0 void, 1 + class for stuff, 1000 and up for things.
        segments: one for each segment_id in `map`, K in total.
        tracks: every object in the memory of the tracker, seen in this frame or not (see `visible`).
        taxonomy: the classes of class_id; empty if the frame was read from messages.
        embeddings: float32 [K, D], appearance of each of `segments`; None when the segmenter has none.
        milliseconds: time spent in each of STAGES.
        objects_3d: objects in 3D, where a host has a depth image of this frame; None otherwise.
        camera_motion: float64 [3, 2], affine motion of the background since the frame before, in image widths: the
            row vector (x, y, 1) of a point of that frame times it is its displacement. None if it is not known.
    """

    stamp: int
    frame_id: str
    sequence_id: int
    map: NDArray[np.uint16]
    segments: tuple[Segment, ...]
    tracks: tuple[Track, ...]
    taxonomy: Taxonomy = field(default=Taxonomy("unknown", ()), compare=False)
    embeddings: NDArray[np.float32] | None = field(default=None, compare=False)
    milliseconds: dict[str, float] = field(default_factory=dict, compare=False)
    objects_3d: Objects3D | None = field(default=None, compare=False)
    camera_motion: NDArray[np.float64] | None = field(default=None, compare=False)

    @property
    def visible(self) -> tuple[Track, ...]:
        """The N tracks seen in this frame (TENTATIVE or CONFIRMED), in the order of `tracks`."""
        return tuple(track for track in self.tracks if track.index >= 0)

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """uint8 [H, W], class id of each pixel, 255 where there is none (void).

        Raises InputError when a segment's class id is above 254.
        """
        ids = [segment.class_id for segment in self.segments]
        if max(ids, default=0) >= VOID_ID:
            raise InputError(f"class_map: class {max(ids)} does not fit uint8 beside {VOID_ID}, void; use `segments`")
        return segment_values(self, ids, VOID_ID, np.uint8)

    @property
    def track_map(self) -> NDArray[np.uint32]:
        """uint32 [H, W], track id of each pixel, 0 where there is no object."""
        return segment_values(self, [segment.track_id for segment in self.segments], 0, np.uint32)

    def mask(self, track: Track | Segment) -> NDArray[np.bool_]:
        """bool [H, W], the pixels of an object in this frame, all False while it is not seen; or those of a segment.

        A track of another frame is found by its track_id.
        """
        if isinstance(track, Track):
            segment_ids = [one.segment_id for one in self.visible if one.track_id == track.track_id]
        else:
            segment_ids = [track.segment_id]
        return self.map == segment_ids[0] if segment_ids else np.zeros(self.map.shape, np.bool_)

    def boxes(self) -> NDArray[np.float32]:
        """float32 [N, 4], x0 y0 x1 y1 in pixels, half-open, of `visible`."""
        return np.array([track.box for track in self.visible], np.float32).reshape(-1, 4)

    def to_supervision(self) -> Any:
        """The visible objects as supervision.Detections: xyxy, mask [N, H, W], confidence, class_id, tracker_id, and
        data["class_name"], all in the order of `visible`.

        Raises InputError when the package supervision is not installed.
        """
        try:
            import supervision
        except ModuleNotFoundError as error:
            if error.name != "supervision":
                raise
            raise InputError("to_supervision: the package is missing; run `pip install supervision`") from None
        seen = self.visible
        masks = [self.mask(track) for track in seen]
        return supervision.Detections(
            xyxy=self.boxes(),
            mask=np.array(masks, np.bool_).reshape(-1, *self.map.shape),
            confidence=np.array([track.score for track in seen], np.float32),
            class_id=np.array([track.class_id for track in seen], np.int64),
            tracker_id=np.array([track.track_id for track in seen], np.int64),
            data={"class_name": np.array([self.taxonomy.class_name(track.class_id) for track in seen], np.str_)},
        )


def segment_values(frame: PanopticFrame, values: Sequence[int], void: int, dtype: DTypeLike) -> NDArray[Any]:
    """[H, W] of `dtype`: for each pixel the value of its segment, `values` being in the order of `frame.segments`."""
    table = np.full(max((s.segment_id for s in frame.segments), default=0) + 1, void, dtype)
    table[[s.segment_id for s in frame.segments]] = values
    return look_up(frame.map, table)
