"""Where a recipe's frames come from: generated drives, or a data set on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from vps_ros.datasets import cityscapes
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import Videos
from vps_ros.datasets.streets import HELD_OUT
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES, Taxonomy

HELD_OUT_SEED = HELD_OUT.start
"""Drives with this seed or a larger one are for final evaluation: no recipe may name them."""


class Reader(NamedTuple):
    """How a data set is read: its classes, and (folder, split or None) -> labelled frames."""

    taxonomy: Taxonomy
    truth: Callable[[str | Path, str | None], Videos]


READERS = {name: Reader(f.taxonomy, f.truth) for name, f in FORMATS.items()}
READERS["cityscapes"] = Reader(CITYSCAPES, cityscapes.read_truth)
"""Format name -> how it is read. Cityscapes has single images, which are learned from but not evaluated as video."""


@dataclass(frozen=True)
class StreetsData:
    """Generated drives.

    Attributes:
        scenarios: names of vps_ros.datasets.streets.SCENARIOS.
        seed, drives: of each scenario, the first seed and how many.
        balanced: how many more drives to learn from, in which the rare classes are frequent (scenario `balanced`).
        frames: of each drive.
        size: width and height of the rendered frames.
        validation_seed, validation_drives, validation_frames: of each scenario; frames are spread over the drive.
        folder: where rendered drives are kept, relative to the working folder.
        processes: that render at once.
        gap: largest number of frames between the two of a pair (Video K-Net's window is 2; low frame rates move objects
            further).
    """

    TAG: ClassVar[str] = "format"
    NAMES: ClassVar[tuple[str, ...]] = ("streets",)
    taxonomy: ClassVar[Taxonomy] = CITYSCAPES
    keep_aspect: ClassVar[bool] = False

    scenarios: tuple[str, ...]
    seed: int = 0
    drives: int = 30
    balanced: int = 0
    frames: int = 24
    size: tuple[int, int] = (640, 192)
    validation_seed: int = 800_000
    validation_drives: int = 1
    validation_frames: int = 8
    folder: str = ".drives"
    processes: int = 2
    gap: int = 3
    format: str = "streets"

    def check(self) -> None:
        """Raises InputError when the drives may not be learned from, or are too few."""
        most = max(self.drives, self.balanced)
        if self.balanced < 0:
            raise InputError(f"data: balanced is {self.balanced}; it cannot be negative")
        for first, count in ((self.seed, most), (self.validation_seed, self.validation_drives)):
            if count < 1 or first < 0 or first + count > HELD_OUT_SEED:
                raise InputError(
                    f"data: seeds {first}..{first + count - 1}; use seeds in 0..{HELD_OUT_SEED - 1}, "
                    "the others are held out for evaluation"
                )
        ends = self.seed + most, self.validation_seed + self.validation_drives
        if self.seed < ends[1] and self.validation_seed < ends[0]:
            raise InputError("data: training and validation share seeds; set them apart")
        if self.frames < 2 or self.validation_frames < 1 or self.gap < 1:
            raise InputError(
                "data: frames must be at least 2 (pairs are learned from), validation_frames and gap at least 1"
            )


@dataclass(frozen=True)
class FolderData:
    """A data set in its own layout (docs/datasets.md).

    Attributes:
        format: one of READERS.
        root: its folder, relative to the working folder.
        size: width and height that frames have for the network: validation scales them to it, and the exported model
            has this input. In training it is the scale of 1 that views zoom from.
        split, validation_split: of the data set; empty, all of it to learn from, and none to validate on.
        images: folder of the camera images, as VIDEO/FRAME.png or .jpg, where they do not lie beside the truth.
        gap: largest number of labelled frames between the two of a pair.
        keep_aspect: scale frames to fit into `size`, padded right and below; otherwise they are stretched to it.
        validation_frames: in all, spread over the split.
    """

    TAG: ClassVar[str] = "format"
    NAMES: ClassVar[tuple[str, ...]] = tuple(READERS)

    format: str
    root: str
    size: tuple[int, int]
    split: str = "train"
    validation_split: str = "val"
    images: str = ""
    gap: int = 3
    keep_aspect: bool = False
    validation_frames: int = 100

    @property
    def taxonomy(self) -> Taxonomy:
        return READERS[self.format].taxonomy

    def check(self) -> None:
        """Raises InputError when the entries contradict each other."""
        if self.split == self.validation_split:
            raise InputError(
                f"data: split and validation_split are both {self.split!r}; name different ones, "
                "or write an empty validation_split"
            )
        if self.gap < 1 or self.validation_frames < 1:
            raise InputError("data: gap and validation_frames must be at least 1")


Data = StreetsData | FolderData
