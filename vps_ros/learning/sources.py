"""The frames that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.class_mapping import source_table
from vps_ros.learning.augment import Scale
from vps_ros.learning.clips import Clip
from vps_ros.learning.data import Data, FolderData, entries_of, labels_of
from vps_ros.learning.drives import Streets
from vps_ros.learning.folders import Folders
from vps_ros.learning.mixture import CodedClip, Mixture, Portion
from vps_ros.learning.pseudo_labels import teach
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.taxonomy import Taxonomy


class OtherFrames(NamedTuple):
    """Frames to validate on in the classes of another data set.

    Attributes:
        size: width and height at which the network sees them, about.
        table: uint8 [256], brings the model's class ids to those of the data set.
    """

    frames: list[tuple[Clip, int]]
    size: tuple[int, int]
    taxonomy: Taxonomy
    table: NDArray[np.uint8]


class Mixed:
    """The sources of a recipe as one."""

    def __init__(self, data: Data) -> None:
        self._data, self._entries = data, entries_of(data)
        self.taxonomy = data.taxonomy
        self._sources = [Folders(e) if isinstance(e, FolderData) else Streets(e) for e in self._entries]
        self._codes, self._tables = labels_of(data)

    def training(self, voice: Voice = SILENT) -> Mixture:
        """Raises InputError when an entry has nothing to learn from."""
        portions = []
        for i, (entry, source) in enumerate(zip(self._entries, self._sources, strict=True)):
            clips: Sequence[Clip] = source.training(voice)
            if (table := self._tables[i]) is not None:
                clips = [CodedClip(c, table) for c in clips]
            if isinstance(entry, FolderData) and entry.teacher:
                clips = teach(clips, entry, self._codes, voice)
            scale = Scale(entry.size, entry.keep_aspect, covers=i > 0 and not entry.keep_aspect)
            style = {"style": entry.style, "style_of": entry.style_of, "crops": i > 0}
            times = {"weight": entry.weight, "since": entry.since, "until": entry.until}
            portions.append(Portion(clips, scale, entry.gap, entry.called, **times, **style))
        return Mixture(tuple(portions))

    def validation(self, voice: Voice = SILENT) -> list[tuple[Clip, int]]:
        """Frames of the first entry, with the values of the run."""
        table = self._tables[0]
        frames = self._sources[0].validation(voice)
        return frames if table is None else [(CodedClip(clip, table), i) for clip, i in frames]

    def other_validation(self, voice: Voice = SILENT) -> dict[str, OtherFrames]:
        """By name, frames of the entries after the first that have any."""
        found = {}
        for entry, source in list(zip(self._entries, self._sources, strict=True))[1:]:
            if isinstance(entry, FolderData) and (frames := source.validation(voice)):
                own = entry.classes
                found[entry.called] = OtherFrames(frames, entry.size, own.taxonomy, source_table(own, self.taxonomy))
        return found


def source_of(data: Data) -> Mixed:
    """Where the frames of a recipe come from."""
    return Mixed(data)
