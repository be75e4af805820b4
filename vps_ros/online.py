"""The pipeline: one camera frame in, one panoptic frame out, in order, with no look-ahead."""

from __future__ import annotations

from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vps_ros.config import Config
from vps_ros.errors import DroppedFrame
from vps_ros.frame import THING_BASE, Frame, PanopticFrame, Segment, Segmentation, Track
from vps_ros.segmenters import Segmenter, load_segmenter
from vps_ros.sequence import SequenceWatch
from vps_ros.taxonomy import Taxonomy
from vps_ros.trackers import Tracker, make_tracker


class OnlinePanoptic:
    """Segmenter and tracker together; the same in every host. Sets NumPy's BLAS to one thread in the whole process.

    Args:
        config: every parameter; its defaults run the shipped model on the CPU.
        segmenter: use this one instead of loading `config.model` (several cameras may share one that keeps no state).
        tracker: use this one instead of the one that `config.tracker` names.

    Raises InputError when the model or a parameter cannot be used.
    """

    def __init__(
        self, config: Config | None = None, segmenter: Segmenter | None = None, tracker: Tracker | None = None
    ) -> None:
        self.config = config or Config()
        self.segmenter = segmenter or load_segmenter(self.config.segmenter_parameters)
        self.tracker: Tracker = tracker or make_tracker(self.config)
        self._sequence = SequenceWatch(self.config)
        # BLAS threads go on spinning after each small product, on the cores that the network needs next.
        threadpool_limits(limits=1, user_api="blas")

    @property
    def taxonomy(self) -> Taxonomy:
        return self.segmenter.taxonomy

    def step(self, frame: Frame) -> PanopticFrame:
        """The frame's classes and identities.

        Raises DroppedFrame when the image, or what the network made of it, cannot be used; the tracks are kept.
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
        return PanopticFrame(frame.stamp, frame.frame_id, self._sequence.id, painted, segments, tracks, times)

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
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DroppedFrame(
            f"frame at {frame.stamp} ns: image is {image.dtype} {list(image.shape)}; "
            "give uint8 [height, width, 3] in RGB order"
        )
