"""A data set on disk as clips: frames are read when a batch needs them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vps_ros.datasets.formats import DATA_SETS
from vps_ros.datasets.images import load_image
from vps_ros.datasets.kitti_step import list_images, list_without_split
from vps_ros.datasets.labels import LabelledFrame, Videos, listed
from vps_ros.errors import InputError
from vps_ros.learning.clips import Clip, Picture
from vps_ros.learning.data import FolderData
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.taxonomy import Taxonomy


@dataclass(frozen=True)
class FolderClip:
    """One video: the frames that have labels, each with its image."""

    name: str
    frames: tuple[LabelledFrame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> Picture:
        """Raises InputError when a file is damaged, or image and labels differ in size."""
        frame = self.frames[index]
        image, labels = load_image(frame.image), frame.read()
        if image.shape[:2] != labels.semantic.shape:
            sizes = ["{1}x{0}".format(*shape[:2]) for shape in (image.shape, labels.semantic.shape)]
            raise InputError(f"{frame.image}: is {sizes[0]}, but its labels {frame.where} are {sizes[1]}")
        instance = labels.instance
        return Picture(image, labels.semantic, instance if instance.dtype == np.uint16 else instance.astype(np.int32))


class Folders:
    """The clips of the data set that a recipe names."""

    def __init__(self, data: FolderData) -> None:
        self._data = data

    @property
    def taxonomy(self) -> Taxonomy:
        return self._data.taxonomy

    def training(self, voice: Voice = SILENT) -> list[FolderClip]:
        clips = self._clips(self._data.split)
        count = sum(map(len, clips))
        voice.note(f"{self._data.root}: {count} labelled frames of {len(clips)} videos to learn from")
        return clips

    def validation(self, voice: Voice = SILENT) -> list[tuple[Clip, int]]:
        if not self._data.validation_split:
            return []
        frames = [(c, i) for c in self._clips(self._data.validation_split) for i in range(len(c))]
        chosen = np.linspace(0, len(frames) - 1, min(self._data.validation_frames, len(frames)))
        return [frames[int(i)] for i in chosen]

    def _clips(self, split: str) -> list[FolderClip]:
        data = self._data
        videos = DATA_SETS[data.format].truth(data.root, split or None)
        if data.images:
            videos = _with_images(videos, data.images, split)
        frames = [frame for video in videos.values() for frame in video.values()]
        _refuse_missing([f for f in frames if f.image is None or not f.image.is_file()], data)
        return [FolderClip(name, tuple(video.values())) for name, video in videos.items() if video]


def _with_images(videos: Videos, root: str, split: str) -> dict[str, dict[str, LabelledFrame]]:
    photos = list_without_split(list_images, root, split or None)
    return {
        s: {f: replace(one, image=photos.get(s, {}).get(f)) for f, one in video.items()} for s, video in videos.items()
    }


def _refuse_missing(missing: list[LabelledFrame], data: FolderData) -> None:
    if missing:
        where = {str(f.image) for f in missing if f.image}
        named = f"; expected {min(where)}" if where else ""
        raise InputError(
            f"{data.images or data.root}: has no image of {len(missing)} labelled frame(s): "
            f"{listed((f.name for f in missing), 3)}{named}; add them, or say where they lie in `data.images`"
        )
