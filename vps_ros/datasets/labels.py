"""What every data set gives and takes: videos of frames, each with the class and the instance of its pixels.

A format of a data set is three functions (`LabelFormat`): truth and prediction from a folder to `Videos`, and a writer
of predictions. Whatever is coded on disk, the arrays are the same: `evaluation` needs to know no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, Taxonomy


class LabelMap(NamedTuple):
    """One frame's labels.

    Attributes:
        semantic: uint8 [H, W], class ids of the format's taxonomy; 255 is void.
        instance: uint32 or smaller [H, W]; the same object has the same number throughout its video. 0 on stuff and
            void; on a thing it means that its objects were not told apart (a crowd).
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer]


@dataclass(frozen=True)
class LabelledFrame:
    """One frame whose labels are read when they are asked for.

    Attributes:
        sequence, frame: the names by which truth and prediction are joined.
        where: the file of the labels, or another place, for errors.
        read: reads the labels; raises InputError that names the file.
        image: the camera image, where the data set has it beside the labels.
    """

    sequence: str
    frame: str
    where: Path | str
    read: Callable[[], LabelMap]
    image: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.sequence}/{self.frame}"


Videos = Mapping[str, Mapping[str, LabelledFrame]]
"""Sequence -> frame -> the labelled frame; frames in the order of time."""


class LabelWriter(Protocol):
    """Takes the predicted frames of one data set, video by video, in the order of time."""

    def add(self, sequence: str, frame: str, labels: LabelMap) -> None:
        """Writes one frame; raises InputError when the coding cannot hold it, or the frame was added before."""


@dataclass(frozen=True)
class LabelFormat:
    """How a data set lies on disk.

    Attributes:
        name: of the format, as users write it (`vipseg`).
        taxonomy: its classes.
        truth: (folder, split or None) -> labelled frames. Raises InputError when the folder holds none.
        prediction: the same for predictions, which may be laid out otherwise.
        writer: (folder, force) -> a context in which predictions are written. They appear in the folder together when
            it ends well, and not at all otherwise; `force` lets them replace earlier ones.
        sparse: only some frames of a video are labelled; what is predicted for the others counts nowhere.
        protocol: of its benchmark, one of `vps_ros.evaluation.protocols.PROTOCOLS`.
    """

    name: str
    taxonomy: Taxonomy
    truth: Callable[[str | Path, str | None], Videos]
    prediction: Callable[[str | Path, str | None], Videos]
    writer: Callable[[str | Path, bool], AbstractContextManager[LabelWriter]]
    sparse: bool = False
    protocol: str = "deeplab2"


def check_classes(semantic: NDArray[np.uint8], taxonomy: Taxonomy, where: object) -> None:
    """Raises InputError when a map uint8 [H, W] has a class that is neither void nor in the taxonomy."""
    found = np.flatnonzero(cv2.calcHist([semantic], [0], None, [VOID_ID + 1], [0, VOID_ID + 1]))
    strange = np.setdiff1d(found, np.append(taxonomy.ids, VOID_ID))
    if len(strange):
        raise InputError(f"{where}: class id {listed(strange)} is not in taxonomy {taxonomy.name} ({span(taxonomy)})")


def span(taxonomy: Taxonomy) -> str:
    """The ids of a taxonomy and void, for errors."""
    ids = taxonomy.ids
    return f"ids {ids.min()}..{ids.max()}, {VOID_ID} for void"


def listed(values: Iterable[object], most: int = 5) -> str:
    """A few values for an error."""
    values = list(values)
    return ", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")


def existing(root: str | Path) -> Path:
    """The folder, when it is one; raises InputError otherwise."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; give the data set's folder")
    return root
