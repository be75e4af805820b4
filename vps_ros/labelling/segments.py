"""The segments of the frames of a project by its segmenter, computed once and kept on disk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.frame import Segmentation
from vps_ros.label_maps import areas, boxes, look_up, runs
from vps_ros.labelling.edits import CODE, SegmentRow
from vps_ros.segmenters import Segmenter, load_segmenter
from vps_ros.taxonomy import VOID_ID, Taxonomy
from vps_ros.trackers.similarity import iou, overlap


class SegmentStore:
    """Results of a segmenter for the images of a folder; the model is loaded when the first result is missing.

    Args:
        folder: of the results, FRAME.npz.
        config: names the model, its thresholds and its hardware.
        image: frame -> uint8 [H, W, 3] RGB.
        taxonomy: the classes that the model must have; None accepts every model.
    """

    def __init__(
        self, folder: Path, config: Config, image: Callable[[int], NDArray[np.uint8]], taxonomy: Taxonomy | None = None
    ) -> None:
        self._folder, self._config, self._image, self._taxonomy = folder, config, image, taxonomy
        self._loaded: Segmenter | None = None

    @property
    def segmenter(self) -> Segmenter:
        """Raises InputError when the model cannot be used, or has other classes."""
        if self._loaded is None:
            self._loaded = load_segmenter(self._config.segmenter_parameters)
            found = self._loaded.taxonomy
            if self._taxonomy and found.classes != self._taxonomy.classes:
                raise InputError(
                    f"model {self._config.model}: its classes are not those of the project ({self._taxonomy.name}); "
                    "name a model with the same classes"
                )
        return self._loaded

    def __call__(self, frame: int) -> Segmentation:
        path = self._folder / f"{frame:06d}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                return Segmentation(**{name: stored[name] for name in stored.files})
        except FileNotFoundError:
            pass
        except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile):
            raise InputError(f"{path}: is damaged; delete it, it is computed again") from None
        found = self.segmenter(self._image(frame))
        values = {name: value for name, value in vars(found).items() if value is not None}
        with atomic_write(path) as draft:
            np.savez_compressed(draft, **values)
        return found


def mask_ious(first: NDArray[np.integer], second: NDArray[np.integer], rows: int, columns: int) -> NDArray[np.float64]:
    """Mask IoU float64 [rows, columns] of the labels 1..rows and 1..columns of two maps [H, W]; 0 is no label."""
    return iou(overlap(first, second, rows, columns))


def described(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Values above 0 of a map [H, W] in ascending order, int64 [K], their areas int64 [K] and boxes float32 [K, 4]."""
    start, length = runs(labels)
    values, which = np.unique(labels.reshape(-1)[start], return_inverse=True)
    label = which.reshape(-1) + 1
    kept = values > 0
    corners = boxes(label, start, length, labels.shape[1], len(values))
    return values[kept].astype(np.int64), areas(label, length, len(values))[kept], corners[kept]


def codes_of(labels: LabelMap) -> NDArray[np.int32]:
    """int32 [H, W], class * 65536 + instance of each pixel."""
    return labels.semantic.astype(np.int32) * CODE + labels.instance


def rows_of(labels: LabelMap) -> tuple[SegmentRow, ...]:
    """The things of a map in the order of their instances, with score 1."""
    classes = np.zeros(CODE, np.uint8)
    classes[labels.instance] = labels.semantic
    ids, sizes, corners = described(labels.instance)
    parts = zip(ids.tolist(), sizes.tolist(), corners.tolist(), strict=True)
    return tuple(SegmentRow(i, int(classes[i]), size, (x0, y0, x1, y1), 1.0) for i, size, (x0, y0, x1, y1) in parts)


def class_map(segmentation: Segmentation) -> NDArray[np.uint8]:
    """uint8 [H, W], class of each pixel, VOID_ID for void."""
    return look_up(segmentation.map, np.append(VOID_ID, segmentation.class_ids).astype(np.uint8))


def thing_map(segmentation: Segmentation) -> NDArray[np.uint16]:
    """uint16 [H, W]: 1 + row of the things of a segmentation, 0 elsewhere."""
    table = np.where(segmentation.is_thing, np.arange(1, len(segmentation) + 1), 0)
    return look_up(segmentation.map, np.append(0, table).astype(np.uint16))
