"""Results of a replay as YouTube-VIS: the mask of each object in each frame, for benchmarks of video instances."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vps_ros.commands.console import note, warn
from vps_ros.datasets.rle import RunLengths, from_mask
from vps_ros.datasets.youtube_vis import ObjectTrack, ObjectVideo, save_results
from vps_ros.errors import InputError
from vps_ros.files import refuse_folder
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.taxonomies import YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from vps_ros.taxonomy import Taxonomy

EDITIONS = {"2019": YOUTUBE_VIS_2019, "2021": YOUTUBE_VIS_2021}
_SYNONYMS = {"motorcycle": "motorbike"}
"""Name of a class in other data sets -> its name in YouTube-VIS."""


@dataclass
class _Object:
    masks: dict[int, RunLengths] = field(default_factory=dict)
    classes: Counter[int] = field(default_factory=Counter)
    score: float = 0.0


class YoutubeVisWriter:
    """Collects the objects of one video, and writes them as results of YouTube-VIS at the end.

    Classes are matched by name; objects of other classes are left out. The score of an object is the mean of its scores
    in the frames in which it is seen, its class that of most frames. Memory grows with the outlines of the masks.

    Args:
        path: of the JSON file.
        edition: a key of EDITIONS.
        video: `video_id` of the results.
        force: replace an existing file.

    Use as a context manager: the file appears when the block ends without an error.
    """

    def __init__(self, path: str | Path, edition: str, video: int, force: bool = False) -> None:
        self._path = refuse_folder(path, force)
        self._edition, self._video, self._force = edition, video, force
        self._frames = 0
        self._size = (0, 0)
        self._objects: dict[int, _Object] = {}
        self._taxonomy: Taxonomy | None = None

    def write(self, frame: Frame, result: PanopticFrame) -> None:
        """Adds the result of the next frame; raises InputError when the image size changes."""
        if self._taxonomy is None:
            self._taxonomy, self._size = result.taxonomy, result.map.shape
        if result.map.shape != self._size:
            raise InputError(f"{self._path}: the size of the images changes; a video of YouTube-VIS has one size")
        for track in result.visible:
            found = self._objects.setdefault(track.track_id, _Object())
            found.masks[self._frames] = from_mask(result.mask(track))
            found.classes[track.class_id] += 1
            found.score += track.score
        self._frames += 1

    def __enter__(self) -> YoutubeVisWriter:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is not None or self._taxonomy is None:
            return
        names = {c.name: c.id for c in EDITIONS[self._edition].classes}
        tracks, without = [], Counter[str]()
        for number, one in sorted(self._objects.items()):
            name = self._taxonomy.class_name(one.classes.most_common(1)[0][0])
            category = names.get(_SYNONYMS.get(name, name))
            if category is None:
                without[name] += 1
                continue
            masks = tuple(one.masks.get(frame) for frame in range(self._frames))
            tracks.append(ObjectTrack(number, category, masks, one.score / len(one.masks)))
        height, width = self._size
        frames = tuple(map(str, range(self._frames)))
        save_results(self._path, [ObjectVideo(self._video, "", frames, height, width, tuple(tracks))], self._force)
        note(f"{self._path}: {len(tracks)} objects in {self._frames} frames, video {self._video}")
        if without:
            listed = ", ".join(f"{count} {name}" for name, count in sorted(without.items()))
            warn(f"{self._path}: YouTube-VIS {self._edition} has no class for {listed}; left out")
