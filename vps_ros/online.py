"""The pipeline: one camera frame in, one panoptic frame out, in order.

Online, a frame's result comes with the frame. Near-online, a network segments clips of several frames, and the result
comes with the last frame of its clip (Video-kMaX, sections 3.1 to 3.3); all else is the same.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vps_ros.clips import FrameGroups, Group
from vps_ros.config import Config
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import THING_BASE, Frame, PanopticFrame, Segment, Segmentation, Track
from vps_ros.label_maps import look_up
from vps_ros.parallel import in_order
from vps_ros.segmenters import (
    BatchSegmenter,
    ClassNames,
    ClipPool,
    ClipSegmenter,
    FunctionSegmenter,
    Segmenter,
    SegmentFunction,
    as_segmenter,
    clip_of,
    load_segmenter,
)
from vps_ros.sequence import SequenceMonitor
from vps_ros.taxonomy import Taxonomy
from vps_ros.trackers import Tracker, make_tracker
from vps_ros.trackers.colour_histogram import with_appearance
from vps_ros.trackers.stitching import Stitcher

_CLIPS_AHEAD = 2


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame between the two halves of a step.

    Attributes:
        sequence: number of its sequence, from 0.
        milliseconds: by stage, so far.
    """

    frame: Frame
    sequence: int
    segmentation: Segmentation
    milliseconds: dict[str, float]


class _Clip(NamedTuple):
    """A complete clip before its segmentation."""

    frames: Group[Frame]
    sequence: int


Found = tuple[list[Segmentation] | DroppedFrame, float]
"""The segments of each frame of a clip, or why there are none; and the time of the network in milliseconds."""


class OnlinePanoptic:
    """The pipeline: a segmenter and a tracker. Sets NumPy's BLAS to one thread in the complete process.

    `step` returns the result of each frame at once. With a model whose clips have more than one new frame, results come
    up to `clip.late` frames later: use `push` and, at the end, `flush`, which work with every model.

    Args:
        config: all parameters; the defaults run the shipped model on the CPU.
        segmenter: replaces the model `config.model`: a Segmenter (several cameras may share one without recurrent
            state), or any function of an image, uint8 [H, W, 3] RGB, that returns a Segmentation,
            supervision.Detections with masks, or (masks bool [N, H, W], class ids [N], scores [N]), optionally with
            embeddings [N, D] as a fourth element (see segmentation_from_masks). Its time is `milliseconds["segment"]`.
        tracker: replaces the tracker that `config.tracker` names.
        taxonomy: the classes of a function: a Taxonomy, the name of a data set, or class names by id (all things). Not
            needed if the function has an attribute `taxonomy`.

    Attributes:
        parallel: whether processes can segment several clips at the same time (see `segment_in_parallel`).

    Raises InputError when the model, the function's classes or a parameter cannot be used.
    """

    def __init__(
        self,
        config: Config | None = None,
        segmenter: Segmenter | SegmentFunction | None = None,
        tracker: Tracker | None = None,
        taxonomy: ClassNames | None = None,
    ) -> None:
        if config is not None and not isinstance(config, Config):
            raise InputError(
                f"config: is a {type(config).__name__}; give vps_ros.Config(...), such as Config(model='streets-s')"
            )
        config, by_name = config or Config(), segmenter is None
        if segmenter is None:
            if taxonomy is not None:
                raise InputError(
                    "taxonomy: a model file contains its classes; give taxonomy only with segmenter=function"
                )
            segmenter = load_segmenter(config.segmenter_parameters)
        self.segmenter = as_segmenter(segmenter, taxonomy)
        if isinstance(self.segmenter, FunctionSegmenter):
            # Weights that were learned for the embeddings of config.model are not valid for those of a function.
            config = config.for_other_segmentations()
        self.config = config
        self.tracker: Tracker = tracker or make_tracker(config)
        self.clip = clip_of(self.segmenter)
        if config.segmenter_parameters.clip_length not in (0, self.clip.length):
            raise InputError(
                f"clip_length {config.segmenter_parameters.clip_length}: segmenter {self.segmenter.name} takes "
                f"{self.clip.length} frame(s); leave clip_length out"
            )
        # Other processes can load the model only by its name.
        self.parallel = by_name and self.clip.length > 1
        self._sequence = SequenceMonitor()
        self._groups: FrameGroups[Frame] = FrameGroups(self.clip)
        self._stitcher = Stitcher(self.clip)
        # Threads may segment and track at the same time: each half resets what it has when its sequence changes.
        self._segmented_sequence = self._tracked_sequence = self._sequence.id
        # BLAS threads spin after each small product, on the cores that the network needs next.
        threadpool_limits(limits=1, user_api="blas")

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the results."""
        return self.segmenter.taxonomy

    def step(self, frame: Frame) -> PanopticFrame:
        """Classes and identities of one frame.

        Raises DroppedFrame when the image or the output of the network cannot be used; the tracks are kept.
        Raises InputError when `frame` is no Frame, its stamp is not an int, or a function used as segmenter returns a
        wrong value.
        """
        if self.clip.late:
            raise InputError(
                f"step: {self.segmenter.name} takes clips of {self.clip.length} frames with {self.clip.overlap} "
                f"overlapping ones, so that results come {self.clip.late} frame(s) later; use push and flush, or "
                f"clip_overlap {self.clip.length - 1}"
            )
        return self.push(frame)[0]

    def push(self, frame: Frame) -> list[PanopticFrame]:
        """Adds a frame; the results that it completes, in order: none, or those of this frame and of earlier ones.

        Raises as `step`; a DroppedFrame only if no result can be returned.
        """
        if not isinstance(frame, Frame):
            raise InputError(
                f"frame: is a {type(frame).__name__}; give vps_ros.Frame(image, stamp), or a frame of open_frames"
            )
        return self._track_all(self.segment_ready(frame))

    def flush(self) -> list[PanopticFrame]:
        """The results of the frames that still wait for the end of their clip. The sequence may continue."""
        return self._track_all(self.segment_ready(None))

    def _track_all(self, segmented: list[SegmentedFrame | DroppedFrame]) -> list[PanopticFrame]:
        found = [self.track(one) for one in segmented if isinstance(one, SegmentedFrame)]
        for one in segmented:
            if isinstance(one, DroppedFrame) and not found:
                raise one
        return found

    def segment_ready(self, frame: Frame | None) -> list[SegmentedFrame | DroppedFrame]:
        """The first half of `push`, or of `flush` for None: the frames that are segmented now, in order.

        A frame that cannot be used is the reason for it. Raises InputError as `step`. One thread may call this for the
        next frame while another one calls `track` for the results of this one, in order.
        """
        found: list[SegmentedFrame | DroppedFrame] = []
        for clip in self._complete(frame):
            found += [clip] if isinstance(clip, DroppedFrame) else self._finish(clip, self._segment(clip))
        return found

    def _complete(self, frame: Frame | None) -> list[_Clip | DroppedFrame]:
        """The clips that a frame completes, or for None the end of the recording; a frame that cannot be used."""
        before, groups = self._sequence.id, list[tuple[Group[Frame] | None, int]]()
        if frame is None:
            groups.append((self._groups.flush(), before))
        else:
            try:
                _check(frame)
            except DroppedFrame as reason:
                return [reason]
            memory = self.config.tracker_parameters
            if self._sequence.starts(frame, memory.memory_tau, memory.memory_unit == "seconds"):
                groups.append((self._groups.flush(), before))
                self._groups.reset()
            groups.append((self._groups.push(frame), self._sequence.id))
        return [_Clip(group, sequence) for group, sequence in groups if group]

    def _segment(self, clip: _Clip) -> Found:
        if clip.sequence != self._segmented_sequence:
            self.segmenter.reset()
        images, start = [frame.image for frame in clip.frames.items], perf_counter()
        try:
            if self.clip.length == 1:
                found = [self.segmenter(images[0])]
            else:
                assert isinstance(self.segmenter, ClipSegmenter)
                found = self.segmenter.segment_clip(images)
        except DroppedFrame as reason:
            return reason, 0.0
        return found, (perf_counter() - start) * 1e3

    def _finish(self, clip: _Clip, result: Found) -> list[SegmentedFrame | DroppedFrame]:
        """The new frames of a clip, each with the same share of the time."""
        (found, milliseconds), start = result, perf_counter()
        if clip.sequence != self._segmented_sequence:
            self._stitcher.reset()
            self._segmented_sequence = clip.sequence
        new = clip.frames.items[clip.frames.new]
        if isinstance(found, DroppedFrame):
            return [found] * len(new)
        if self.clip.length > 1:
            found = self._stitcher(clip.frames, found, self.config.segmenter_parameters.clip_iou)
        if self.tracker.needs_embeddings:
            found = [s if s.embeddings is not None else with_appearance(f, s) for f, s in zip(new, found, strict=True)]
        share = (milliseconds + (perf_counter() - start) * 1e3) / len(new)
        return [SegmentedFrame(f, clip.sequence, s, {"segment": share}) for f, s in zip(new, found, strict=True)]

    def track(self, segmented: SegmentedFrame) -> PanopticFrame:
        """The second half of a step: identities. Raises InputError as `step`."""
        timer = StageTimer(segmented.milliseconds)
        if segmented.sequence != self._tracked_sequence:
            self.tracker.reset()
            self._tracked_sequence = segmented.sequence
        frame, segmentation = segmented.frame, segmented.segmentation
        timer.end("other")
        tracks = self.tracker.step(frame, segmentation)
        timer.end("track")
        segments = describe_segments(segmentation, tracks)
        ids = segment_id_map(segmentation, segments)
        timer.end("other")
        return PanopticFrame(
            frame.stamp,
            frame.frame_id,
            segmented.sequence,
            ids,
            segments,
            tracks,
            self.taxonomy,
            segmentation.embeddings,
            timer.milliseconds | self.tracker.milliseconds,
            camera_motion=self.tracker.camera_motion,
        )

    def segment_in_parallel(
        self, frames: Iterable[Frame | None], jobs: int
    ) -> Generator[list[SegmentedFrame | DroppedFrame], None, None]:
        """As `segment_ready` for all frames, by `jobs` processes, each with the model; the results are the same.

        Only where `parallel` is true. Frames are taken up to two clips for each process ahead of the results.
        """
        clips = (clip for frame in frames for clip in self._complete(frame))
        with ClipPool(self.config.segmenter_parameters, jobs) as pool:

            def segment(clip: _Clip | DroppedFrame) -> tuple[_Clip, Found] | DroppedFrame:
                if isinstance(clip, DroppedFrame):
                    return clip
                return clip, pool.segment([frame.image for frame in clip.frames.items])

            with closing(in_order(segment, clips, jobs, _CLIPS_AHEAD)) as segmented:
                for one in segmented:
                    yield [one] if isinstance(one, DroppedFrame) else self._finish(*one)

    @property
    def waiting(self) -> tuple[Frame, ...]:
        """The frames whose results will come with a later frame; at most `clip.late`."""
        return self._groups.waiting

    @property
    def batched(self) -> bool:
        """Whether the network can run once for the images of several pipelines that share the segmenter."""
        return isinstance(self.segmenter, BatchSegmenter) and self.segmenter.batched

    def run_ahead(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Runs the network once for images of pipelines that share the segmenter, where `batched` is true.

        The steps with these images must follow before any other.
        """
        assert isinstance(self.segmenter, BatchSegmenter)
        self.segmenter.run_ahead(images)

    def reset(self) -> None:
        """Removes all tracks, and frames that wait for their clip, and starts a new sequence.

        Track ids continue: none is used twice.
        """
        self._sequence.restart()
        self._segmented_sequence = self._tracked_sequence = self._sequence.id
        self.segmenter.reset()
        self._groups.reset()
        self._stitcher.reset()
        self.tracker.reset()

    def configure(self, config: Config) -> None:
        """Uses the live parameters of `config` from the next frame on; the others must not differ."""
        self.segmenter.configure(config.segmenter_parameters)
        self.tracker.configure(config.tracker_parameters)
        self.config = config

    def interrupt(self) -> None:
        """Makes a step that is running in another thread fail soon; later steps are not affected."""
        self.segmenter.interrupt()


class StageTimer:
    """Times of the stages of a step.

    Attributes:
        milliseconds: by stage, added to those `before`. Merge those of the tracker over them, which divide `track` into
            `flow` and `track`.
    """

    def __init__(self, before: Mapping[str, float] = MappingProxyType({})) -> None:
        self.milliseconds = dict(before)
        self._start = perf_counter()

    def end(self, stage: str) -> None:
        """Adds the time since the end of the previous stage to this one."""
        now = perf_counter()
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + (now - self._start) * 1e3
        self._start = now


def describe_segments(segmentation: Segmentation, tracks: tuple[Track, ...]) -> tuple[Segment, ...]:
    """The Segment of each row of the segmentation, in order; a thing has the class of its track.

    Raises InputError when a thing has not exactly one track, or stuff has one.
    """
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


def segment_id_map(segmentation: Segmentation, segments: tuple[Segment, ...]) -> NDArray[np.uint16]:
    """uint16 [H, W], the segment_id of each pixel."""
    return look_up(segmentation.map, np.array([0, *(segment.segment_id for segment in segments)], np.uint16))


def _check(frame: Frame) -> None:
    image = frame.image
    if not isinstance(frame.stamp, int):
        raise InputError(f"stamp {frame.stamp!r} is a {type(frame.stamp).__name__}; give nanoseconds as an int")
    if not isinstance(image, np.ndarray):
        raise DroppedFrame(f"frame at {frame.stamp} ns: image is a {type(image).__name__}; give a NumPy array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DroppedFrame(
            f"frame at {frame.stamp} ns: image is {image.dtype} {list(image.shape)}; "
            "give uint8 [height, width, 3] in RGB order"
        )
