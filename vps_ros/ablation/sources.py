"""The segmentations that trackers are compared on, made once for each drive and replayed through every tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros import segmenters, taxonomy
from vps_ros.ablation import degrade
from vps_ros.ablation.degrade import DEGRADED, TRUE, Degrader, visible_truth
from vps_ros.ablation.shelf import Shelf, fingerprint
from vps_ros.datasets import streets
from vps_ros.errors import InputError
from vps_ros.evaluation import overlaps as tables
from vps_ros.evaluation.overlaps import Classes, Overlaps, overlaps
from vps_ros.frame import Frame, Segmentation
from vps_ros.segmenters import SegmenterParameters, load_segmenter
from vps_ros.shipped import fingerprint as file_fingerprint
from vps_ros.shipped import model_path
from vps_ros.taxonomy import CITYSCAPES, VOID_ID
from vps_ros.trackers import colour_histogram
from vps_ros.trackers.colour_histogram import with_appearance

MASKS = {
    "true": "the masks of the ground truth, colour histograms as embeddings",
    "degraded": "the same with things missed, split and merged, ragged borders and flickering classes",
    "model": "masks and embeddings of the model",
}
CLASSES = Classes(CITYSCAPES)
_DEGRADED = {"true": TRUE, "degraded": DEGRADED}


@dataclass(frozen=True)
class Drive:
    """Which drive; arguments as `vps_ros.datasets.streets.drive`."""

    scenario: str
    seed: int
    frames: int
    size: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.seed}-{self.frames}x{self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class Shot:
    """One frame as trackers and judges need it.

    Attributes:
        frame: the camera's.
        segmentation: with embeddings, without identity.
        table: what each true segment shares with each segment, whose instance is its number in the map (of things).
    """

    frame: Frame
    segmentation: Segmentation
    table: Overlaps


def prepare(shelf: Shelf, drive: Drive, masks: str, model: str) -> None:
    """Puts a drive and its segmentations on the shelf, unless they are there."""
    if not shelf.has(*_source_entry(drive, masks, model)):
        _segmented(shelf, drive, masks, model, _rendered(shelf, drive))


def load(shelf: Shelf, drive: Drive, masks: str, model: str) -> list[Shot]:
    """The frames of a drive with their segmentations, from the shelf, or made and put there."""
    rendered = _rendered(shelf, drive)
    packed = _segmented(shelf, drive, masks, model, rendered)
    frames = [Frame(image, int(stamp), "camera") for image, stamp in zip(*rendered[:2], strict=True)]
    return [Shot(frame, *found) for frame, found in zip(frames, _unpack(packed), strict=True)]


def check_model(model: str) -> None:
    """Raises InputError for a model that is not there, or does not know the classes of the generated streets."""
    known = load_segmenter(SegmenterParameters(model=model, threads=1)).taxonomy
    if known.ids.tolist() != CITYSCAPES.ids.tolist() or known.thing_ids != CITYSCAPES.thing_ids:
        raise InputError(
            f"model {model!r}: its classes are those of {known.name}, the generated streets have those of "
            f"{CITYSCAPES.name}; choose another model, or leave model out of --masks"
        )


Rendered = tuple[NDArray, NDArray, NDArray, NDArray]
"""image uint8 [F, H, W, 3], stamp int64 [F], semantic uint8 [F, H, W], instance uint16 [F, H, W]."""
_PARTS = ("image", "stamp", "semantic", "instance")


def _rendered(shelf: Shelf, drive: Drive) -> Rendered:
    key = fingerprint([streets, taxonomy], asdict(drive))
    there = shelf.load(drive.name, key)
    if there is None:
        shots = list(streets.drive(drive.scenario, drive.seed, drive.frames, drive.size))
        columns = ([s.frame.image, s.frame.stamp, s.semantic, s.instance] for s in shots)
        there = dict(zip(_PARTS, map(np.stack, zip(*columns, strict=True)), strict=True))
        shelf.store(drive.name, key, there)
    return tuple(there[name] for name in _PARTS)


def _segmented(shelf: Shelf, drive: Drive, masks: str, model: str, rendered: Rendered) -> dict[str, NDArray]:
    """As `_pack` gives it, from the shelf, or made and put there."""
    name, key = _source_entry(drive, masks, model)
    there = shelf.load(name, key)
    if there is None:
        there = _pack(list(_segment(rendered, drive, masks, model)))
        shelf.store(name, key, there)
    return there


def _source_entry(drive: Drive, masks: str, model: str) -> tuple[str, str]:
    """Name and key on the shelf."""
    code = [streets, taxonomy, degrade, tables, colour_histogram]
    if masks == "model":
        facts: Any = file_fingerprint(model_path(model))
        code.append(segmenters)
    else:
        facts = asdict(_DEGRADED[masks])
    return f"{drive.name}-{masks}", fingerprint(code, [asdict(drive), masks, facts])


def _segment(rendered: Rendered, drive: Drive, masks: str, model: str) -> Iterator[tuple[Segmentation, Overlaps]]:
    segment = _segmenter(drive, masks, model)
    for image, stamp, semantic, instance in zip(*rendered, strict=True):
        truth = visible_truth(semantic, instance)
        frame = Frame(image, int(stamp), "camera")
        found = segment(frame, *truth)
        yield found, segment_table(truth, found)


def _segmenter(drive: Drive, masks: str, model: str) -> Callable[[Frame, NDArray, NDArray], Segmentation]:
    if masks == "model":
        # One thread: sums in another order would give other masks.
        network = load_segmenter(SegmenterParameters(model=model, threads=1))
        return lambda frame, *_: _described(frame, network(frame.image))
    make = Degrader(_DEGRADED[masks], drive.seed)
    return lambda frame, *truth: with_appearance(frame, make(*truth))


def _described(frame: Frame, found: Segmentation) -> Segmentation:
    return found if found.embeddings is not None else with_appearance(frame, found)


def segment_table(truth: tuple[NDArray, NDArray], found: Segmentation) -> Overlaps:
    """What true segments share with found ones; truth is (semantic, instance), see `Shot.table`."""
    classes = np.append(VOID_ID, found.class_ids)[found.map]
    return overlaps(CLASSES, *truth, classes, found.map)


_ARRAYS = ("class_ids", "is_thing", "scores", "areas", "boxes", "embeddings")
_COLUMNS = ("gt", "pred", "count")


def _pack(found: list[tuple[Segmentation, Overlaps]]) -> dict[str, NDArray]:
    """Arrays of all frames end to end, and where each frame's begin."""
    segmentations, overlaps_ = zip(*found, strict=True)
    packed = {name: np.concatenate([getattr(s, name) for s in segmentations]) for name in _ARRAYS}
    packed |= {name: np.concatenate([getattr(t, name) for t in overlaps_]) for name in _COLUMNS}
    packed["map"] = np.stack([s.map for s in segmentations])
    packed["segments"] = np.cumsum([len(s) for s in segmentations])[:-1]
    packed["pairs"] = np.cumsum([len(t.count) for t in overlaps_])[:-1]
    return packed


def _unpack(packed: dict[str, NDArray]) -> Iterator[tuple[Segmentation, Overlaps]]:
    arrays = zip(*(np.split(packed[name], packed["segments"]) for name in _ARRAYS), strict=True)
    columns = zip(*(np.split(packed[name], packed["pairs"]) for name in _COLUMNS), strict=True)
    for labels, one, table in zip(packed["map"], arrays, columns, strict=True):
        yield Segmentation(labels, *one), Overlaps(*table)
