"""Tracked objects as results of YouTube-VIS: the mask of each object in each frame."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.commands.console import note, warn
from vps_ros.datasets.rle import RunLengths, from_mask
from vps_ros.datasets.youtube_vis import ObjectTrack, ObjectVideo, save_results
from vps_ros.errors import InputError
from vps_ros.files import refuse_folder
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.taxonomies import YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from vps_ros.taxonomy import Taxonomy

if TYPE_CHECKING:
    # It loads SciPy's sparse matrices, which `replay` does not need.
    from vps_ros.offline import TrackedMap

EDITIONS = {"2019": YOUTUBE_VIS_2019, "2021": YOUTUBE_VIS_2021}
_SYNONYMS = {"motorcycle": "motorbike"}
"""Name of a class in other data sets -> its name in YouTube-VIS."""


def add_youtube_vis_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --youtube-vis, --edition and --video-id."""
    parser.add_argument(
        "--youtube-vis",
        metavar="F.json",
        help="also write the masks of all objects as results of YouTube-VIS, for evaluate --format youtube-vis",
    )
    parser.add_argument(
        "--edition", choices=EDITIONS, default="2021", help="of YouTube-VIS: its classes (default: 2021)"
    )
    parser.add_argument(
        "--video-id", type=int, default=1, metavar="N", help="of YouTube-VIS: of the first video (default: 1)"
    )


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


class YoutubeVisWriter:
    """Collects the objects of videos, and writes them as results of YouTube-VIS at the end.

    Classes are matched by name; objects of other classes are left out.

    Args:
        path: of the JSON file.
        edition: a key of EDITIONS.
        video: `video_id` of the first video; others have the next numbers.
        force: replace an existing file.

    Use as a context manager: the file appears when the block ends without an error.
    """

    def __init__(self, path: str | Path, edition: str, video: int, force: bool = False) -> None:
        self._path = refuse_folder(path, force)
        self._edition, self._video, self._force = edition, video, force
        self._videos: dict[str, _Video] = {}
        self._taxonomy: Taxonomy | None = None

    def write(self, frame: Frame, result: PanopticFrame) -> None:
        """Adds the result of the next frame of a recording; raises InputError when the image size changes."""
        objects = ((t.track_id, t.class_id, t.score, result.mask(t)) for t in result.visible)
        self._add("", result.taxonomy, result.map.shape, objects)

    def write_map(self, tracked: TrackedMap, taxonomy: Taxonomy) -> None:
        """Adds the next map of a sequence, which is a video; raises InputError when the size of its maps changes."""
        seen = (t for t in tracked.tracks if t.index >= 0)
        objects = ((t.track_id, t.class_id, t.score, tracked.instance == t.track_id) for t in seen)
        self._add(tracked.files.sequence, taxonomy, tracked.instance.shape, objects)

    def _add(
        self,
        name: str,
        taxonomy: Taxonomy,
        size: tuple[int, ...],
        objects: Iterable[tuple[int, int, float, NDArray[np.bool_]]],
    ) -> None:
        self._taxonomy = taxonomy
        video = self._videos.setdefault(name, _Video(size, ObjectCollector()))
        if video.size != size:
            raise InputError(f"{self._path}: the size of the images changes; a video of YouTube-VIS has one size")
        video.objects.add(objects)

    def __enter__(self) -> YoutubeVisWriter:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is not None or self._taxonomy is None:
            return
        names = {c.name: c.id for c in EDITIONS[self._edition].classes}
        videos, without = [], Counter[str]()
        for video_id, (name, ((height, width), objects)) in enumerate(self._videos.items(), self._video):
            tracks = []
            for track in objects.tracks():
                class_name = self._taxonomy.class_name(track.class_id)
                category = names.get(_SYNONYMS.get(class_name, class_name))
                if category is None:
                    without[class_name] += 1
                else:
                    tracks.append(replace(track, class_id=category))
            frames = tuple(map(str, range(objects.frames)))
            videos.append(ObjectVideo(video_id, name, frames, height, width, tuple(tracks)))
        save_results(self._path, videos, self._force)
        for video in videos:
            named = f"video {video.id}" + (f" ({video.name})" if video.name else "")
            note(f"{self._path}: {len(video.tracks)} objects in {len(video.frames)} frames, {named}")
        if without:
            listed = ", ".join(f"{count} {name}" for name, count in sorted(without.items()))
            warn(f"{self._path}: YouTube-VIS {self._edition} has no class for {listed}; left out")


class _Video(NamedTuple):
    size: tuple[int, ...]
    objects: ObjectCollector
