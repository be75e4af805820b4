"""Identities for per-frame panoptic maps of another program, read from files."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vps_ros.config import Config
from vps_ros.datasets.kitti_step import MAX_INSTANCE, load_map
from vps_ros.datasets.track_inputs import Embeddings, FrameFiles, MapSegments, load_embeddings, segments_of
from vps_ros.errors import InputError
from vps_ros.frame import Frame, Track
from vps_ros.label_maps import look_up
from vps_ros.online import StageTimer
from vps_ros.recording.image_files import read_image, stamp_of, to_rgb
from vps_ros.taxonomy import Taxonomy
from vps_ros.trackers import Tracker, make_tracker
from vps_ros.trackers.colour_histogram import with_appearance
from vps_ros.trackers.lookahead import Identities, link
from vps_ros.trackers.tracklets import TrackletRecorder

_CODE_BITS = 32
"""Of the codes of MapSegments; the number of the clip is above them in the numbers of tubes."""


@dataclass(frozen=True)
class LoadedFrame:
    """The content of the files of one frame; H and W are those of image and map."""

    files: FrameFiles
    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    embeddings: Embeddings | None


@dataclass(frozen=True)
class TrackedMap:
    """A panoptic map whose instances are identities.

    Attributes:
        files: of the frame.
        segments: of the input map.
        semantic: uint8 [H, W], that of the input.
        instance: uint16 [H, W], track id of each pixel, 1 and up for things; 0 elsewhere.
        tracks: all tracks in the memory after the frame.
        milliseconds: segment (segments out of the map, and their appearance), flow, track, other (painting).
        camera_motion: float64 [3, 2], as in PanopticFrame; None if the tracker does not know it.
    """

    files: FrameFiles
    segments: MapSegments
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    tracks: tuple[Track, ...]
    milliseconds: dict[str, float]
    camera_motion: NDArray[np.float64] | None = None


def load(files: FrameFiles) -> LoadedFrame:
    """Reads one frame; raises InputError that names the wrong file, or both where their sizes differ."""
    semantic, instance = load_map(files.map)
    image = to_rgb(read_image(files.image))
    if image.shape[:2] != semantic.shape:
        raise InputError(
            f"{files.map}: is {_size(semantic)}, its image {files.image} is {_size(image)}; "
            "give both at the size of the camera"
        )
    embeddings = None if files.embeddings is None else load_embeddings(files.embeddings)
    return LoadedFrame(files, image, semantic, instance, embeddings)


def track_maps(frames: Iterable[LoadedFrame], config: Config, taxonomy: Taxonomy, hz: float) -> Iterator[TrackedMap]:
    """Assigns identities, sequence by sequence; each sequence has its own tracker, with ids from 1.

    Instance ids of the input are used within a frame only. Without embeddings, appearance is a histogram of the colours
    of the image. Sets NumPy's BLAS to one thread in the complete process.

    Args:
        frames: in order; the frames of a sequence one after the other.
        config: `tracker` and its parameters. No model is run, so `tracker_weights: model` means none. With a
            `clip_length` T above 1, a thing keeps its instance id within each clip, T frames that do not overlap.
        taxonomy: which classes are things.
        hz: frames per second, for the stamps.

    Raises:
        InputError: names the frame whose size or embeddings do not fit the frames before, whose classes are unknown,
            or which needs an id above 65535; or clips that are not possible.
    """
    # BLAS threads spin after each small product, on the cores that read the next frames.
    threadpool_limits(limits=1, user_api="blas")
    config = config.for_other_segmentations()
    clip = _clip_length(config)
    sequence: _Sequence | None = None
    for frame in frames:
        if sequence is None or sequence.name != frame.files.sequence:
            if sequence is not None:
                sequence.end()
            sequence = _Sequence(frame.files.sequence, make_tracker(config), taxonomy, hz, clip)
        yield sequence.step(frame)
    if sequence is not None:
        sequence.end()


def _clip_length(config: Config) -> int:
    parameters = config.segmenter_parameters
    if parameters.clip_overlap > 0:
        raise InputError(
            f"clip_overlap {parameters.clip_overlap}: there is one panoptic map for each frame, which belongs to one "
            "clip; give clip_length alone"
        )
    return max(parameters.clip_length, 1)


def track_maps_with_lookahead(
    files: Iterable[FrameFiles],
    read: Callable[[Iterable[FrameFiles]], Iterable[LoadedFrame]],
    config: Config,
    taxonomy: Taxonomy,
    hz: float,
) -> Iterator[TrackedMap]:
    """As `track_maps`, with identities that are optimised over each complete sequence.

    The first pass over a sequence tracks online, then the tracklets are linked (`vps_ros.trackers.lookahead`), and the
    second pass writes. Memory grows with the number of tracklets; the tracks of each frame wait in a temporary file.

    Args:
        files: in order; the frames of a sequence one after the other.
        read: loads frames in order; called twice for each sequence.
    """
    for _, group in groupby(files, key=lambda one: one.sequence):
        sequence, recorder = tuple(group), TrackletRecorder()
        with TemporaryFile() as file:
            for frame, tracked in enumerate(track_maps(read(sequence), config, taxonomy, hz)):
                width, vectors = tracked.semantic.shape[1], tracked.segments.segmentation.embeddings
                appearances = (vectors, vectors)
                recorder.add(0, stamp_of(frame, hz), width, tracked.tracks, appearances, tracked.camera_motion)
                pickle.dump((tracked.tracks, tracked.milliseconds), file)
            identities = Identities(recorder, link(recorder), config.tracker_parameters.confirm_hits)
            file.seek(0)
            for loaded in read(sequence):
                online, milliseconds = pickle.load(file)
                segments = segments_of(loaded.semantic, loaded.instance, taxonomy, loaded.files.map)
                tracks = identities.rewrite(0, online)
                instance = _instance_map(segments, tracks, loaded.files)
                yield TrackedMap(loaded.files, segments, loaded.semantic, instance, tracks, milliseconds)


class _Sequence:
    """The tracker of one sequence; checks that its frames fit each other."""

    def __init__(self, name: str, tracker: Tracker, taxonomy: Taxonomy, hz: float, clip: int) -> None:
        self.name = name
        self._tracker, self._taxonomy, self._hz, self._clip = tracker, taxonomy, hz, clip
        # Instances that are given for a clip are kept, also by trackers that take tubes as evidence.
        tracker.matches_tubes = True
        self._count = 0
        self._first: LoadedFrame | None = None
        self._with_vectors: Embeddings | None = None

    def step(self, loaded: LoadedFrame) -> TrackedMap:
        self._check(loaded)
        timer = StageTimer()
        frame = Frame(loaded.image, stamp_of(self._count, self._hz))
        number, self._count = self._count // self._clip, self._count + 1
        segments = segments_of(loaded.semantic, loaded.instance, self._taxonomy, loaded.files.map)
        segments = self._with_embeddings(frame, segments, loaded.embeddings)
        if self._clip > 1:
            things = segments.segmentation.is_thing
            tubes = np.where(things, (number << _CODE_BITS) + segments.codes + 1, 0)
            segments = replace(segments, segmentation=replace(segments.segmentation, tubes=tubes))
        timer.end("segment")
        try:
            tracks = self._tracker.step(frame, segments.segmentation)
        except InputError as error:
            raise InputError(f"{loaded.files.map}: {error}") from None
        timer.end("track")
        instance = _instance_map(segments, tracks, loaded.files)
        timer.end("other")
        times = timer.milliseconds | self._tracker.milliseconds
        camera = self._tracker.camera_motion
        return TrackedMap(loaded.files, segments, loaded.semantic, instance, tracks, times, camera)

    def end(self) -> None:
        """Raises InputError when the sequence is shorter than a clip."""
        if self._count < self._clip:
            raise InputError(
                f"clip_length {self._clip}: sequence {self.name} has only {self._count} frame(s); use shorter clips"
            )

    def _check(self, loaded: LoadedFrame) -> None:
        first = self._first = self._first or loaded
        if loaded.semantic.shape != first.semantic.shape:
            raise InputError(
                f"{loaded.files.map}: is {_size(loaded.semantic)}, but {first.files.frame} of its sequence is "
                f"{_size(first.semantic)}; frames of a sequence have one size"
            )
        if loaded.embeddings is None or not len(loaded.embeddings.ids):
            return
        known = self._with_vectors = self._with_vectors or loaded.embeddings
        if loaded.embeddings.vectors.shape[1] != known.vectors.shape[1]:
            raise InputError(
                f"{loaded.embeddings.path}: embeddings have length {loaded.embeddings.vectors.shape[1]}, those of "
                f"{known.path.name} have {known.vectors.shape[1]}; embeddings of a sequence have one length"
            )

    def _with_embeddings(self, frame: Frame, segments: MapSegments, given: Embeddings | None) -> MapSegments:
        if given is None:
            return replace(segments, segmentation=with_appearance(frame, segments.segmentation))
        vectors = given.of(segments, self._taxonomy)
        # The file of a frame without things may have embeddings of length 0.
        known = vectors if vectors.shape[1] else None
        return replace(segments, segmentation=replace(segments.segmentation, embeddings=known))


def _instance_map(segments: MapSegments, tracks: tuple[Track, ...], files: FrameFiles) -> NDArray[np.uint16]:
    """uint16 [H, W]: the track's id where a tracked thing is, 0 elsewhere."""
    table = np.zeros(len(segments.codes) + 1, np.int64)
    for track in tracks:
        if track.index >= 0:
            table[1 + track.index] = track.track_id
    if table.max() > MAX_INSTANCE:
        raise InputError(
            f"{files.map}: object {table.max()} of its sequence cannot be written, KITTI-STEP holds {MAX_INSTANCE} "
            f"in a sequence; split {files.sequence} in two, or choose tracker parameters that end fewer tracks"
        )
    return look_up(segments.segmentation.map, table.astype(np.uint16))


def _size(array: NDArray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
