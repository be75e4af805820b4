"""Pseudo-labels: a teacher, a network of semantic segmentation, fills unlabelled pixels of a data set.

A teacher is an ONNX file. Its input is one image, uint8 [1, H, W, 3] RGB, which is resized to its size. Its output is
the class of each pixel, integer [1, h, w], or logits, float [1, C, h, w] or [1, h, w, C], in the order of the model's
classes. A pixel gets a label only where the results for the image and its mirror image agree. Pseudo-labels are classes
without instances, computed once and stored on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vps_ros.datasets.class_mapping import LabelCodes
from vps_ros.datasets.images import GREY, load_png, save_png
from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.clips import Clip, Picture
from vps_ros.learning.data.entries import FolderData
from vps_ros.taxonomy import VOID_ID

FOLDER = ".teacher"
"""Folder of pseudo-labels, in the working folder."""
_EXPECTED = "a pseudo-label map is an 8-bit grey image; delete it, it is computed again"


class Completion(NamedTuple):
    """How pseudo-labels are merged into label maps with the codes of a run.

    Attributes:
        alone: uint8 [C], the code of each class without a segment.
        fits: bool [256, C], whether a pseudo-label of a class may replace a code.
    """

    alone: NDArray[np.uint8]
    fits: NDArray[np.bool_]

    @classmethod
    def of(cls, codes: LabelCodes) -> Completion:
        count = len(codes.taxonomy)
        open_ = codes.unlabelled & (codes.index < 0) & (codes.group < 0)
        fits = np.repeat(open_[:, None], count, 1)
        several = np.flatnonzero(codes.group >= 0)
        fits[several] = codes.members[codes.group[several], :count]
        # Also for codes that exclude all things, such as the background of COCO: pseudo-labels of stuff replace them.
        return cls(codes.alone, fits)

    def complete(self, semantic: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`semantic` uint8 [H, W] completed by pseudo-labels, uint8 [H, W]: class index, 255 for none."""
        known = labels != VOID_ID
        place = np.where(known, labels, 0)
        return np.where(known & self.fits[semantic, place], self.alone[place], semantic)


@dataclass(frozen=True)
class CompletedClip:
    """A clip whose labels are completed by the pseudo-label maps of a folder, one for each frame."""

    clip: Clip
    folder: Path
    completion: Completion

    @property
    def name(self) -> str:
        return self.clip.name

    def __len__(self) -> int:
        return len(self.clip)

    def read(self, index: int) -> Picture:
        picture = self.clip.read(index)
        labels = load_png(self.file(index), (GREY,), _EXPECTED)
        if labels.shape != picture.semantic.shape:
            raise InputError(f"{self.file(index)}: its size is not that of the image; {_EXPECTED}")
        return picture._replace(semantic=self.completion.complete(picture.semantic, labels))

    def file(self, index: int) -> Path:
        """Path of the pseudo-label map of a frame."""
        return self.folder / f"{self.name.replace('/', '_')}-{index}.png"


class Teacher:
    """A network of semantic segmentation; raises InputError when the file is not one."""

    def __init__(self, path: str | Path, classes: int) -> None:
        self._path, self._classes = path, classes
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # the exceptions of ONNX Runtime have no common base
            raise InputError(
                f"{path}: is no ONNX model that ONNX Runtime can load ({str(error).splitlines()[0]})"
            ) from None
        given = self._session.get_inputs()
        shape = given[0].shape
        if len(given) != 1 or given[0].type != "tensor(uint8)" or len(shape) != 4 or shape[3] != 3:
            raise InputError(f"{path}: a teacher takes one image, uint8 [1, H, W, 3]; this takes {given[0].shape}")
        self._input, self._size = given[0].name, (shape[2], shape[1])

    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W]: class index, 255 where the results for the image and its mirror image differ."""
        first, second = self._run(image), self._run(image[:, ::-1])[:, ::-1]
        return np.where(first == second, first, VOID_ID).astype(np.uint8)

    def _run(self, image: NDArray[np.uint8]) -> NDArray[np.integer]:
        size = self._size if all(isinstance(s, int) for s in self._size) else (image.shape[1], image.shape[0])
        ready = cv2.resize(image, size, interpolation=cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR)
        found = self._session.run(None, {self._input: ready[None]})[0]
        if found.ndim == 4 and found.shape[1] == self._classes:
            found = found.argmax(1)
        elif found.ndim == 4 and found.shape[3] == self._classes:
            found = found.argmax(3)
        if found.ndim != 3 or found.max() >= self._classes:
            raise InputError(
                f"{self._path}: a teacher gives classes [1, h, w], or logits of the model's {self._classes} classes; "
                f"this gives {list(found.shape)}"
            )
        return cv2.resize(found[0].astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def add_pseudo_labels(
    clips: Sequence[Clip], entry: FolderData, codes: LabelCodes, reporter: Reporter = SILENT
) -> list[CompletedClip]:
    """The clips with completed labels; pseudo-labels that are missing on disk are computed first."""
    path = Path(entry.teacher)
    if not path.is_file():
        raise InputError(f"data ({entry.called}): teacher {path}: no such file")
    key = hashlib.sha256(path.read_bytes() + str(Path(entry.root).resolve()).encode()).hexdigest()[:12]
    completion = Completion.of(codes)
    completed = [CompletedClip(clip, Path(FOLDER) / f"{entry.called}-{key}", completion) for clip in clips]
    missing = [(c, i) for c in completed for i in range(len(c)) if not c.file(i).is_file()]
    if missing:
        teacher = Teacher(path, len(codes.taxonomy))
        for clip, i in reporter.progress(missing, f"labels of {path.name}", total=len(missing)):
            save_png(clip.file(i), teacher.predict(clip.clip.read(i).image))
    return completed
