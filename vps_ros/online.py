"""The pipeline: one camera frame in, one panoptic frame out, in order, with no look-ahead."""

from __future__ import annotations

from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vps_ros.config import Config
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import THING_BASE, Frame, PanopticFrame, Segment, Segmentation, Track
from vps_ros.segmenters import (
    ClassNames,
    FunctionSegmenter,
    Segmenter,
    SegmentFunction,
    as_segmenter,
    load_segmenter,
)
from vps_ros.sequence import SequenceWatch
from vps_ros.taxonomy import Taxonomy
from vps_ros.trackers import Tracker, make_tracker


class OnlinePanoptic:
    """Segmenter and tracker together; the same in every host. Sets NumPy's BLAS to one thread in the whole process.

    Args:
        config: every parameter; its defaults run the shipped model on the CPU.
        segmenter: use this one instead of loading `config.model`: a Segmenter (several cameras may share one that keeps
            no state), or any function of an image, uint8 [H, W, 3] RGB, that returns a Segmentation or
            (masks bool [N, H, W], class ids [N], scores [N]) with, if you like, embeddings [N, D] as a fourth
            (see segmentation_from_masks). Its time is `milliseconds["segment"]`.
        tracker: use this one instead of the one that `config.tracker` names.
        taxonomy: the classes of a function: a Taxonomy, a data set's name, or class names by id (all things). Not
            needed where the function has an attribute `taxonomy`.

    Raises InputError when the model, the function's classes or a parameter cannot be used.
    """

    def __init__(
        self,
        config: Config | None = None,
        segmenter: Segmenter | SegmentFunction | None = None,
        tracker: Tracker | None = None,
        taxonomy: ClassNames | None = None,
    ) -> None:
        config = config or Config()
        if segmenter is None:
            if taxonomy is not None:
                raise InputError("taxonomy: a model file has classes of its own; give it with segmenter=function only")
            segmenter = load_segmenter(config.segmenter_parameters)
        self.segmenter = as_segmenter(segmenter, taxonomy)
        if isinstance(self.segmenter, FunctionSegmenter):
            # What was learned for the embeddings of config.model is not valid for those of a function.
            config = config.for_other_segmentations()
        self.config = config
        self.tracker: Tracker = tracker or make_tracker(config)
        self._sequence = SequenceWatch(self.config)
        # BLAS threads go on spinning after each small product, on the cores that the network needs next.
        threadpool_limits(limits=1, user_api="blas")

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the results."""
        return self.segmenter.taxonomy

    def step(self, frame: Frame) -> PanopticFrame:
        """The frame's classes and identities.

        Raises DroppedFrame when the image, or what the network made of it, cannot be used; the tracks are kept.
        Raises InputError when the stamp is not an int, or a function given as segmenter returns what cannot be used.
        """
        began = perf_counter()
        _check(frame)
        if self._sequence.starts(frame):
            self._forget()
        ready = perf_counter()
        segmentation = self.segmenter(frame.image)
        segmented = perf_counter()
        tracks = self.tracker.step(frame, segmentation)
        tracked = perf_counter()
        segments = describe(segmentation, tracks)
        painted = paint(segmentation, segments)
        times = {
            "segment": (segmented - ready) * 1e3,
            **self.tracker.milliseconds,
            "other": (perf_counter() - tracked + ready - began) * 1e3,
        }
        return PanopticFrame(
            frame.stamp,
            frame.frame_id,
            self._sequence.id,
            painted,
            segments,
            tracks,
            self.taxonomy,
            segmentation.embeddings,
            times,
        )

    def reset(self) -> None:
        """Forgets every object and starts a new sequence; ids go on, so that none is used twice."""
        self._sequence.restart()
        self._forget()

    def configure(self, config: Config) -> None:
        """Takes over the live parameters of `config` from the next frame on; the others must be as they were."""
        self.segmenter.configure(config.segmenter_parameters)
        self.tracker.configure(config.tracker_parameters)
        self._sequence.configure(config)
        self.config = config

    def interrupt(self) -> None:
        """Makes a step that is under way in another thread fail soon; later ones are not affected."""
        self.segmenter.interrupt()

    def _forget(self) -> None:
        self.tracker.reset()
        self.segmenter.reset()


def describe(segmentation: Segmentation, tracks: tuple[Track, ...]) -> tuple[Segment, ...]:
    """What each segment of the frame is, in the order of the segmentation's arrays; things have their track's class."""
    seen = {track.index: track for track in tracks if track.index >= 0}
    if set(seen) != set(np.flatnonzero(segmentation.is_thing).tolist()):
        raise InputError("the tracker must give each thing segment of a frame exactly one track, and stuff none")
    rows = zip(
        segmentation.class_ids.tolist(),
        segmentation.is_thing.tolist(),
        segmentation.scores.tolist(),
        segmentation.areas.tolist(),
        strict=True,
    )
    return tuple(
        Segment(THING_BASE + seen[i].slot, seen[i].class_id, True, score, area, seen[i].track_id)
        if thing
        else Segment(1 + class_id, class_id, False, score, area, 0)
        for i, (class_id, thing, score, area) in enumerate(rows)
    )


def paint(segmentation: Segmentation, segments: tuple[Segment, ...]) -> NDArray[np.uint16]:
    """uint16 [H, W]: the segmentation's map with each segment's number replaced by its segment_id."""
    table = np.zeros(max(len(segments) + 1, 256), np.uint16)
    table[1 : len(segments) + 1] = [segment.segment_id for segment in segments]
    if segmentation.map.dtype == np.uint8:
        return cv2.LUT(segmentation.map, table[:256])
    painted = np.empty(segmentation.map.shape, np.uint16)
    # "clip" lets NumPy write straight into `out`; the bounds check of the default makes a copy.
    return np.take(table, segmentation.map, out=painted, mode="clip")


def _check(frame: Frame) -> None:
    image = frame.image
    if not isinstance(frame.stamp, (int, np.integer)):
        raise InputError(f"stamp {frame.stamp!r} is a {type(frame.stamp).__name__}; give nanoseconds as an int")
    if not isinstance(image, np.ndarray):
        raise DroppedFrame(f"frame at {frame.stamp} ns: image is a {type(image).__name__}; give a NumPy array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DroppedFrame(
            f"frame at {frame.stamp} ns: image is {image.dtype} {list(image.shape)}; "
            "give uint8 [height, width, 3] in RGB order"
        )
