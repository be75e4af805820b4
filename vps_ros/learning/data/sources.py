"""The data sets of a recipe as clips, with the label codes of the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.class_mapping import source_table
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.datasets.images import load_image
from vps_ros.datasets.kitti_step import list_images, list_without_split
from vps_ros.datasets.labels import LabelledFrame, Videos, listed
from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.augmentation import Scale
from vps_ros.learning.data.clips import Clip, Picture
from vps_ros.learning.data.entries import Data, FolderData, entries_of, labels_of
from vps_ros.learning.data.mixture import CodedClip, Mixture, Portion
from vps_ros.learning.data.pseudo_labels import add_pseudo_labels
from vps_ros.learning.data.streets import Streets
from vps_ros.taxonomy import VOID_ID, Taxonomy


@dataclass(frozen=True)
class FolderClip:
    """One video of a data set on disk: its labelled frames, read when a batch needs them."""

    name: str
    frames: tuple[LabelledFrame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> Picture:
        """Raises InputError when a file is damaged, or image and labels differ in size."""
        frame = self.frames[index]
        assert frame.image is not None
        image, labels = load_image(frame.image), frame.read()
        if image.shape[:2] != labels.semantic.shape:
            sizes = ["{1}x{0}".format(*shape[:2]) for shape in (image.shape, labels.semantic.shape)]
            raise InputError(f"{frame.image}: is {sizes[0]}, but its labels {frame.where} are {sizes[1]}")
        instance = labels.instance
        return Picture(image, labels.semantic, instance if instance.dtype == np.uint16 else instance.astype(np.int32))


class Folders:
    """A data set on disk that a recipe names."""

    def __init__(self, data: FolderData) -> None:
        self._data = data

    @property
    def taxonomy(self) -> Taxonomy:
        return self._data.taxonomy

    def training(self, reporter: Reporter = SILENT) -> list[FolderClip]:
        clips = self._clips(self._data.split)
        count = sum(map(len, clips))
        reporter.note(f"{self._data.root}: {count} labelled frames of {len(clips)} videos for training")
        return clips

    def validation(self, reporter: Reporter = SILENT) -> list[tuple[Clip, int]]:
        if not self._data.validation_split:
            return []
        frames: list[tuple[Clip, int]] = [
            (c, i) for c in self._clips(self._data.validation_split) for i in range(len(c))
        ]
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
            f"{listed((f.name for f in missing), 3)}{named}; add them, or write their folder in `data.images`"
        )


class OtherFrames(NamedTuple):
    """Validation frames of a further data set, evaluated with its own classes.

    Attributes:
        size: approximate width and height of the network's input.
        table: uint8 [256], from class ids of the model to those of the data set.
    """

    frames: list[tuple[Clip, int]]
    size: tuple[int, int]
    taxonomy: Taxonomy
    table: NDArray[np.uint8]


class Mixed:
    """All data sets of a recipe."""

    def __init__(self, data: Data) -> None:
        self._data, self._entries = data, entries_of(data)
        self.taxonomy = data.taxonomy
        self._sources = [Folders(e) if isinstance(e, FolderData) else Streets(e) for e in self._entries]
        self._codes, self._tables = labels_of(data)

    def training(self, reporter: Reporter = SILENT) -> Mixture:
        """Raises InputError when an entry has no training frames."""
        portions = []
        for i, (entry, source) in enumerate(zip(self._entries, self._sources, strict=True)):
            clips: list[Clip] = list(source.training(reporter))
            if (table := self._tables[i]) is not None:
                clips = [CodedClip(c, table) for c in clips]
            if isinstance(entry, FolderData) and entry.teacher:
                clips = list(add_pseudo_labels(clips, entry, self._codes, reporter))
            scale = Scale(entry.size, entry.keep_aspect, covers=i > 0 and not entry.keep_aspect)
            times = entry.weight, entry.since, entry.until
            portions.append(Portion(clips, scale, entry.gap, entry.called, *times, i > 0, entry.style, entry.style_of))
        return Mixture(tuple(portions))

    def validation(self, reporter: Reporter = SILENT) -> list[tuple[Clip, int]]:
        """Validation frames of the first entry, with the model's classes; pixels without a single class are void."""
        table = self._tables[0]
        frames = self._sources[0].validation(reporter)
        if table is None:
            return frames
        table = np.where(np.isin(table, self.taxonomy.ids), table, VOID_ID).astype(np.uint8)
        return [(CodedClip(clip, table), i) for clip, i in frames]

    def other_validation(self, reporter: Reporter = SILENT) -> dict[str, OtherFrames]:
        """Validation frames of the entries after the first, by name, for entries that have some."""
        found = {}
        for entry, source in list(zip(self._entries, self._sources, strict=True))[1:]:
            if isinstance(entry, FolderData) and (frames := source.validation(reporter)):
                own = entry.classes
                found[entry.called] = OtherFrames(frames, entry.size, own.taxonomy, source_table(own, self.taxonomy))
        return found


def source_of(data: Data) -> Mixed:
    """The data sets of a recipe."""
    return Mixed(data)
