"""Labels by a teacher: a network of classes tells what a data set's labels leave open, and nothing else.

A teacher is an ONNX file: one image uint8 [1, H, W, 3] RGB in, stretched to its size; out, either the class of each
pixel, integer [1, h, w], or logits, float [1, C, h, w] or [1, h, w, C], in the order of the model's classes. What it
says of an image and of its mirror image must agree. Its labels are classes only, made once and kept on disk.
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
"""Where labels of teachers are kept, in the working folder."""
_EXPECTED = "a label map of a teacher is grey, 8 bits; delete it, it is made again"


class Completion(NamedTuple):
    """How labels of a teacher go into label maps with the values of a run.

    Attributes:
        alone: uint8 [C], the value that tells a class only.
        fits: bool [256, C], whether the teacher may say a class where the labels have a value.
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
        # Where nothing of the model's may be, as in the background of COCO, a teacher says what it is all the same.
        return cls(codes.alone, fits)

    def complete(self, semantic: NDArray[np.uint8], told: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`semantic` uint8 [H, W] with what the teacher told, uint8 [H, W]: index of a class, 255 for nothing."""
        known = told != VOID_ID
        place = np.where(known, told, 0)
        return np.where(known & self.fits[semantic, place], self.alone[place], semantic)


@dataclass(frozen=True)
class TaughtClip:
    """A clip whose labels are completed by label maps in a folder, one for each frame."""

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
        told = load_png(self.file(index), (GREY,), _EXPECTED)
        if told.shape != picture.semantic.shape:
            raise InputError(f"{self.file(index)}: is not of the size of its image; {_EXPECTED}")
        return picture._replace(semantic=self.completion.complete(picture.semantic, told))

    def file(self, index: int) -> Path:
        """Of a frame's label map."""
        return self.folder / f"{self.name.replace('/', '_')}-{index}.png"


class Teacher:
    """An ONNX file of classes; raises InputError when it is none."""

    def __init__(self, path: str | Path, classes: int) -> None:
        self._path, self._classes = path, classes
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has an exception for each cause
            raise InputError(f"{path}: is no ONNX model that can be run ({str(error).splitlines()[0]})") from None
        given = self._session.get_inputs()
        shape = given[0].shape
        if len(given) != 1 or given[0].type != "tensor(uint8)" or len(shape) != 4 or shape[3] != 3:
            raise InputError(f"{path}: a teacher takes one image, uint8 [1, H, W, 3]; this takes {given[0].shape}")
        self._input, self._size = given[0].name, (shape[2], shape[1])

    def tell(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W]: index of a class, 255 where the image and its mirror image do not agree."""
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


def teach(clips: Sequence[Clip], entry: FolderData, codes: LabelCodes, reporter: Reporter = SILENT) -> list[TaughtClip]:
    """The clips with completed labels; label maps that are missing on disk are made first."""
    path = Path(entry.teacher)
    if not path.is_file():
        raise InputError(f"data ({entry.called}): teacher {path}: no such file")
    key = hashlib.sha256(path.read_bytes() + str(Path(entry.root).resolve()).encode()).hexdigest()[:12]
    completion = Completion.of(codes)
    taught = [TaughtClip(clip, Path(FOLDER) / f"{entry.called}-{key}", completion) for clip in clips]
    missing = [(c, i) for c in taught for i in range(len(c)) if not c.file(i).is_file()]
    if missing:
        teacher = Teacher(path, len(codes.taxonomy))
        for clip, i in reporter.progress(missing, f"labels of {path.name}", total=len(missing)):
            save_png(clip.file(i), teacher.tell(clip.clip.read(i).image))
    return taught
