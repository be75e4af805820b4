"""YouTube-VIS: objects through videos, as masks that may overlap, in one JSON.

    ROOT/train.json, valid.json, test.json         truth: videos, annotations, categories; or ROOT/SPLIT/instances.json
    ROOT/SPLIT/JPEGImages/VIDEO/FRAME.jpg           camera images
    results.json                                    predictions: a list of {video_id, category_id, score, segmentations}

`segmentations` has a run-length mask, or null, for each frame of the video. The 2019 and the 2021 edition have 40
classes each, not the same. Source: Yang et al., Video Instance Segmentation, ICCV 2019.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.coco_panoptic import classes_by_id
from vps_ros.datasets.labels import LabelledFrame, LabelMap, Videos, existing_folder
from vps_ros.datasets.rle import RunLengths, from_json, from_mask
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_folder
from vps_ros.reading import JsonValue, load_json
from vps_ros.taxonomies import YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from vps_ros.taxonomy import VOID_ID, Taxonomy

EDITIONS = {"2019": YOUTUBE_VIS_2019, "2021": YOUTUBE_VIS_2021}
_SYNONYMS = {"motorcycle": "motorbike"}
"""Name of a class in other data sets -> its name in YouTube-VIS."""
SPLIT = "valid"
"""The default split, by its name in the data set; `val` is accepted too."""


@dataclass(frozen=True)
class ObjectTrack:
    """One object through its video.

    Attributes:
        id: of the annotation, from 1 on; of a prediction its place in the results, from 1 on.
        class_id: in the taxonomy.
        masks: one for each frame of the video; None where the object is not seen.
        score: of a prediction; None in the truth.
        crowd: several objects that are not separated.
    """

    id: int
    class_id: int
    masks: tuple[RunLengths | None, ...]
    score: float | None = None
    crowd: bool = False


@dataclass(frozen=True)
class ObjectVideo:
    """A video and its objects; `name` is its folder, `frames` are the names of its files without suffix."""

    id: int
    name: str
    frames: tuple[str, ...]
    height: int
    width: int
    tracks: tuple[ObjectTrack, ...]


def find_truth(root: str | Path, split: str | None = None) -> Path:
    """The JSON of a split within the data set; raises InputError when there is none."""
    root = existing_folder(root)
    split = {None: SPLIT, "val": SPLIT}.get(split, split)
    names = (f"{split}.json", f"{split}/instances.json", f"instances_{split}.json", f"instances_{split}_sub.json")
    found = [root / name for name in names if (root / name).is_file()]
    if not found:
        raise InputError(f"{root}: holds no truth of split {split!r}; expected {names[0]} or {names[1]}")
    return found[0]


def edition(path: str | Path) -> Taxonomy:
    """The taxonomy of the edition whose categories a JSON lists; raises InputError when it is neither's."""
    document = load_json(path, "give the JSON of YouTube-VIS")
    names = {c.get("id", int): c.get("name", str) for c in document.items("categories")}
    for taxonomy in EDITIONS.values():
        if names == {c.id: c.name for c in taxonomy.classes}:
            return taxonomy
    raise document.at("categories").error("are those of no known edition of YouTube-VIS (2019, 2021)")


def load_truth(path: str | Path, taxonomy: Taxonomy) -> tuple[ObjectVideo, ...]:
    """The videos of a JSON with their objects.

    Raises:
        InputError: it is no JSON, or inconsistent; the error names the place.
    """
    document = load_json(path, "give the JSON of YouTube-VIS")
    class_id = classes_by_id(taxonomy)
    videos: dict[int, ObjectVideo] = {}
    for entry in document.items("videos"):
        video = _video(entry)
        if video.id in videos:
            raise entry.error(f"has id {video.id}, which another video has too")
        videos[video.id] = video
    tracks: dict[int, dict[int, ObjectTrack]] = {number: {} for number in videos}
    # Its own test and validation files have no annotations.
    for entry in document.items("annotations") if "annotations" in document else ():
        video = _video_of(entry, videos)
        number = entry.get("id", int)
        if number < 1 or number in tracks[video.id]:
            raise entry.error(f"has id {number}; ids are from 1 on, each once in a video")
        crowd = "iscrowd" in entry and bool(entry.get("iscrowd", int))
        tracks[video.id][number] = ObjectTrack(number, class_id(entry), _masks(entry, video), crowd=crowd)
    return tuple(replace(video, tracks=tuple(tracks[video.id].values())) for video in videos.values())


def load_results(path: str | Path, videos: Sequence[ObjectVideo], taxonomy: Taxonomy) -> tuple[ObjectVideo, ...]:
    """The videos with the predicted objects of a results file instead of their own.

    Raises:
        InputError: as `load_truth`, or a prediction has no finite score.
    """
    document = load_json(path, "give the results.json of the predictions")
    class_id = classes_by_id(taxonomy)
    known = {video.id: video for video in videos}
    tracks: dict[int, list[ObjectTrack]] = {video.id: [] for video in videos}
    for number, entry in enumerate(document.items(), 1):
        video = _video_of(entry, known)
        score = float(entry.get("score", (float, int)))
        if not math.isfinite(score):
            raise entry.error(f"has score {score}; write a number")
        tracks[video.id].append(ObjectTrack(number, class_id(entry), _masks(entry, video), score))
    return tuple(replace(video, tracks=tuple(tracks[video.id])) for video in videos)


def save_results(path: str | Path, videos: Iterable[ObjectVideo], force: bool = False) -> None:
    """Writes the objects of the videos as results; the file appears when it is complete.

    Raises:
        InputError: the file exists and `force` is not given, or an object has no score or not a mask or None for each
            frame.
    """
    rows = []
    for video in videos:
        for track in video.tracks:
            where = f"video {video.name}, object {track.id}"
            if track.score is None or not math.isfinite(track.score):
                raise InputError(f"{where}: has no score; results need one")
            if len(track.masks) != len(video.frames):
                raise InputError(f"{where}: {len(track.masks)} masks for {len(video.frames)} frames")
            masks = [None if mask is None else mask.to_json() for mask in track.masks]
            row = {"video_id": video.id, "category_id": track.class_id, "score": track.score, "segmentations": masks}
            rows.append(row)
    with atomic_write(path, force) as draft:
        draft.write_text(json.dumps(rows))


@dataclass
class _Object:
    masks: dict[int, RunLengths] = field(default_factory=dict)
    classes: Counter[int] = field(default_factory=Counter)
    score: float = 0.0


class ObjectCollector:
    """The objects of one video, frame by frame. Memory grows with the outlines of the masks.

    The score of an object is the mean of its scores in the frames in which it is seen, its class that of most frames.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._objects: dict[int, _Object] = {}

    def add(self, objects: Iterable[tuple[int, int, float, NDArray[np.bool_]]]) -> None:
        """Adds the next frame: identity, class id, score and mask (bool [H, W]) of each object that is seen in it."""
        for number, class_id, score, mask in objects:
            found = self._objects.setdefault(number, _Object())
            found.masks[self.frames] = from_mask(mask)
            found.classes[class_id] += 1
            found.score += score
        self.frames += 1

    def tracks(self) -> tuple[ObjectTrack, ...]:
        """The objects in the order of their identities; class ids are those that were added."""
        return tuple(
            ObjectTrack(
                number,
                one.classes.most_common(1)[0][0],
                tuple(one.masks.get(frame) for frame in range(self.frames)),
                one.score / len(one.masks),
            )
            for number, one in sorted(self._objects.items())
        )


class ResultsWriter:
    """Collects the objects of videos, and writes them as results of YouTube-VIS.

    Classes are matched by name; objects of other classes are left out.

    Args:
        path: of the JSON file.
        edition: a key of EDITIONS.
        first_id: `video_id` of the first video; others have the next numbers.
        force: replace an existing file.
    """

    def __init__(self, path: str | Path, edition: str, first_id: int, force: bool = False) -> None:
        self._path = refuse_folder(path, force)
        self._edition, self._first_id, self._force = edition, first_id, force
        self._videos: dict[str, tuple[tuple[int, ...], ObjectCollector]] = {}

    def add(
        self,
        video: str,
        taxonomy: Taxonomy,
        size: tuple[int, ...],
        objects: Iterable[tuple[int, int, float, NDArray[np.bool_]]],
    ) -> None:
        """Adds the next frame of a video, height and width `size`; `objects` as in ObjectCollector.

        Raises InputError when the size changes.
        """
        self._taxonomy = taxonomy
        known, collector = self._videos.setdefault(video, (size, ObjectCollector()))
        if known != size:
            raise InputError(f"{self._path}: the size of the images changes; a video of YouTube-VIS has one size")
        collector.add(objects)

    def save(self) -> tuple[list[str], str]:
        """Writes the file; returns a line for each video, and one about the objects that were left out, or ""."""
        names = {c.name: c.id for c in EDITIONS[self._edition].classes}
        videos, left_out = [], Counter[str]()
        for video_id, (name, ((height, width), objects)) in enumerate(self._videos.items(), self._first_id):
            tracks = []
            for track in objects.tracks():
                class_name = self._taxonomy.class_name(track.class_id)
                category = names.get(_SYNONYMS.get(class_name, class_name))
                if category is None:
                    left_out[class_name] += 1
                else:
                    tracks.append(replace(track, class_id=category))
            frames = tuple(map(str, range(objects.frames)))
            videos.append(ObjectVideo(video_id, name, frames, height, width, tuple(tracks)))
        save_results(self._path, videos, self._force)
        lines = [
            f"{self._path}: {len(v.tracks)} objects in {len(v.frames)} frames, video {v.id}{v.name and f' ({v.name})'}"
            for v in videos
        ]
        listed = ", ".join(f"{count} {name}" for name, count in sorted(left_out.items()))
        return lines, listed and f"{self._path}: YouTube-VIS {self._edition} has no class for {listed}; left out"


def labelled(videos: Iterable[ObjectVideo], where: str | Path) -> Videos:
    """The videos as labelled frames, one label a pixel.

    Where objects overlap, the one with the higher score is on top; without scores, the smaller one. Pixels without an
    object are void, since the data set does not label them. The instance is the object's id, 0 for a crowd.

    Args:
        videos: with tracks.
        where: their JSON, for errors.
    """
    return {
        video.name: {
            frame: LabelledFrame(video.name, frame, Path(where), partial(_paint, video, i))
            for i, frame in enumerate(video.frames)
        }
        for video in videos
    }


def _paint(video: ObjectVideo, index: int) -> LabelMap:
    semantic = np.full((video.height, video.width), VOID_ID, np.uint8)
    instance = np.zeros((video.height, video.width), np.uint32)
    seen = [(track, mask) for track in video.tracks if (mask := track.masks[index]) is not None]
    for track, mask in sorted(seen, key=lambda one: -one[1].area if one[0].score is None else one[0].score):
        inside = mask.mask()
        semantic[inside], instance[inside] = track.class_id, 0 if track.crowd else track.id
    return LabelMap(semantic, instance)


def _video(entry: JsonValue) -> ObjectVideo:
    files = [PurePosixPath(name.value) for name in entry.items("file_names") if isinstance(name.value, str)]
    height, width = entry.get("height", int), entry.get("width", int)
    if not files or len(files) != len(entry.value["file_names"]) or {f.parent for f in files} != {files[0].parent}:
        raise entry.error("has file_names that are not the files VIDEO/FRAME.jpg of one folder")
    if "length" in entry and entry.get("length", int) != len(files):
        raise entry.error(f"has length {entry.value['length']}, but {len(files)} file_names")
    frames = tuple(f.stem for f in files)
    if len(set(frames)) != len(frames):
        raise entry.error("names a frame twice")
    if height < 1 or width < 1:
        raise entry.error(f"is {width} x {height} pixels")
    return ObjectVideo(entry.get("id", int), files[0].parent.name, frames, height, width, ())


def _video_of(entry: JsonValue, videos: dict[int, ObjectVideo]) -> ObjectVideo:
    number = entry.get("video_id", int)
    if number not in videos:
        raise entry.error(f"has video_id {number}, which is no video of the truth")
    return videos[number]


def _masks(entry: JsonValue, video: ObjectVideo) -> tuple[RunLengths | None, ...]:
    values = entry.items("segmentations")
    if len(values) != len(video.frames):
        raise entry.error(f"has {len(values)} segmentations, but its video has {len(video.frames)} frames")
    masks = [None if v.value is None else from_json(v.value, f"{v.path}: {v.place}") for v in values]
    for value, mask in zip(values, masks, strict=True):
        if mask and (mask.height, mask.width) != (video.height, video.width):
            raise value.error(f"is {mask.width}x{mask.height}, but its video is {video.width}x{video.height}")
    return tuple(masks)
