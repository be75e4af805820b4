"""The segmentations on which trackers are compared: computed once for each drive, and cached on disk."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros import clips, segmenters, taxonomy
from vps_ros.ablation import degrade
from vps_ros.ablation.degrade import DEGRADED, TRUE, VISIBLE, Degrader
from vps_ros.clips import FrameGroups
from vps_ros.datasets import streets
from vps_ros.errors import InputError
from vps_ros.evaluation import overlaps as tables
from vps_ros.evaluation.overlaps import Classes, Overlaps, overlaps
from vps_ros.files import atomic_write, model_path
from vps_ros.files import fingerprint as file_fingerprint
from vps_ros.frame import Frame, Segmentation
from vps_ros.segmenters import ClipSegmenter, SegmenterParameters, clip_of, load_segmenter
from vps_ros.taxonomy import CITYSCAPES, VOID_ID
from vps_ros.trackers import colour_histogram, stitching
from vps_ros.trackers.colour_histogram import with_appearance
from vps_ros.trackers.stitching import Stitcher

MASKS = {
    "true": "the masks of the ground truth, colour histograms as embeddings",
    "degraded": "the same with things missed, split and merged, ragged borders and flickering classes",
    "model": "masks and embeddings of the model",
    "clips": "masks, tubes and embeddings of a model for clips (--clip-model), near-online",
}
OF_NETWORK = ("model", "clips")
CLASSES = Classes(CITYSCAPES)
_KEY = "key"
_PACKAGES = ("numpy", "scipy", "opencv-python-headless", "panda3d", "onnxruntime", "onnxruntime-gpu")
_DEGRADED = {"true": TRUE, "degraded": DEGRADED}


@dataclass(frozen=True)
class Drive:
    """A generated drive; arguments as `vps_ros.datasets.streets.drive`."""

    scenario: str
    seed: int
    frames: int
    size: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.seed}-{self.frames}x{self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class DriveFrame:
    """One frame of a drive.

    Attributes:
        frame: the camera image.
        segmentation: with embeddings, without identities.
        table: overlaps of true segments and segments; the instance of a predicted thing is its label in the map.
    """

    frame: Frame
    segmentation: Segmentation
    table: Overlaps


def check_model(model: str, clips: bool = False) -> None:
    """Raises InputError for a model that does not exist, or has other classes than the generated streets.

    Args:
        clips: whether it must take clips; otherwise it must take single images.
    """
    network = load_segmenter(SegmenterParameters(model=model, threads=1))
    if clips != (clip_of(network).length > 1):
        takes = (
            "single images; give a model for clips (`vps-ros export --clip`)" if clips else "clips; give --clip-model"
        )
        raise InputError(f"model {model!r}: takes {takes}")
    known = network.taxonomy
    if known.ids.tolist() != CITYSCAPES.ids.tolist() or known.thing_ids != CITYSCAPES.thing_ids:
        raise InputError(
            f"model {model!r}: its classes are those of {known.name}, the generated streets have those of "
            f"{CITYSCAPES.name}; choose another model, or leave model out of --masks"
        )


Rendered = tuple[NDArray, NDArray, NDArray, NDArray]
"""image uint8 [F, H, W, 3], stamp int64 [F], semantic uint8 [F, H, W], instance uint16 [F, H, W]."""
_PARTS = ("image", "stamp", "semantic", "instance")


@dataclass(frozen=True)
class Source:
    """The segmentations of one drive.

    Attributes:
        folder: cache of drives and segmentations.
        masks: one of MASKS.
        model: of the masks `model` or `clips`.
    """

    folder: str | Path
    drive: Drive
    masks: str
    model: str

    def prepare(self) -> None:
        """Computes the drive and its segmentations, unless they are in the cache."""
        if not ArrayCache(self.folder).has(*self._entry()):
            self._segmented(self._rendered())

    def frames(self) -> list[DriveFrame]:
        """The frames with their segmentations, from the cache or computed and added to it."""
        rendered = self._rendered()
        found = unpack(self._segmented(rendered))
        frames = [Frame(image, int(stamp), "camera") for image, stamp in zip(*rendered[:2], strict=True)]
        return [DriveFrame(frame, *one) for frame, one in zip(frames, found, strict=True)]

    def _rendered(self) -> Rendered:
        drive = self.drive

        def render() -> dict[str, NDArray]:
            frames = list(streets.drive(drive.scenario, drive.seed, drive.frames, drive.size))
            columns = ([s.frame.image, s.frame.stamp, s.semantic, s.instance] for s in frames)
            return dict(zip(_PARTS, map(np.stack, zip(*columns, strict=True)), strict=True))

        key = fingerprint([streets, taxonomy], asdict(drive))
        found = ArrayCache(self.folder).get(drive.name, key, render)
        return tuple(found[name] for name in _PARTS)

    def _segmented(self, rendered: Rendered) -> dict[str, NDArray]:
        """The result of `pack`, from the cache or computed and added to it."""
        return ArrayCache(self.folder).get(*self._entry(), lambda: pack(list(self._segment(rendered))))

    def _entry(self) -> tuple[str, str]:
        """Name and key in the cache."""
        code = [streets, taxonomy, degrade, tables, colour_histogram]
        if self.masks in OF_NETWORK:
            facts: Any = file_fingerprint(model_path(self.model))
            code += [segmenters, clips, stitching] if self.masks == "clips" else [segmenters]
        else:
            facts = asdict(_DEGRADED[self.masks])
        return f"{self.drive.name}-{self.masks}", fingerprint(code, [asdict(self.drive), self.masks, facts])

    def _segment(self, rendered: Rendered) -> Iterator[tuple[Segmentation, Overlaps]]:
        frames = [Frame(image, int(stamp), "camera") for image, stamp in zip(*rendered[:2], strict=True)]
        truths = [VISIBLE.void_small(*labels, CITYSCAPES) for labels in zip(*rendered[2:], strict=True)]
        if self.masks in OF_NETWORK:
            # With one thread the order of sums, and so the masks, are the same on every machine.
            segmentations = segmented(SegmenterParameters(model=self.model, threads=1), frames)
        else:
            degrader = Degrader(_DEGRADED[self.masks], self.drive.seed)
            segmentations = (degrader(*truth) for truth in truths)
        for frame, truth, found in zip(frames, truths, segmentations, strict=True):
            if found.embeddings is None:
                found = with_appearance(frame, found)
            yield found, segment_table(truth, found)


def segmented(parameters: SegmenterParameters, frames: Iterable[Frame]) -> Iterator[Segmentation]:
    """The segmentations by a network of the frames of a sequence, with tubes if it takes clips."""
    network = load_segmenter(parameters)
    if not isinstance(network, ClipSegmenter) or network.clip.length == 1:
        yield from (network(frame.image) for frame in frames)
        return
    groups, stitch = FrameGroups[Frame](network.clip), Stitcher(network.clip)
    for group in (*map(groups.push, frames), groups.flush()):
        if group is not None:
            yield from stitch(group, network.segment_clip([f.image for f in group.items]), parameters.clip_iou)


def segment_table(truth: tuple[NDArray, NDArray], found: Segmentation) -> Overlaps:
    """`DriveFrame.table`; truth is (semantic, instance)."""
    classes = np.append(VOID_ID, found.class_ids)[found.map]
    return overlaps(CLASSES, *truth, classes, found.map)


_ARRAYS = ("class_ids", "is_thing", "scores", "areas", "boxes", "embeddings")
_COLUMNS = ("gt", "pred", "count")


def pack(found: list[tuple[Segmentation, Overlaps]]) -> dict[str, NDArray]:
    """Concatenated arrays of all frames, and the indices where frames begin."""
    segmentations, overlaps_ = zip(*found, strict=True)
    packed = {name: np.concatenate([getattr(s, name) for s in segmentations]) for name in _ARRAYS}
    packed |= {name: np.concatenate([getattr(t, name) for t in overlaps_]) for name in _COLUMNS}
    if all(s.tubes is not None for s in segmentations):
        packed["tubes"] = np.concatenate([s.tubes for s in segmentations])
    packed["map"] = np.stack([s.map for s in segmentations])
    packed["segments"] = np.cumsum([len(s) for s in segmentations])[:-1]
    packed["pairs"] = np.cumsum([len(t.count) for t in overlaps_])[:-1]
    return packed


def unpack(packed: dict[str, NDArray]) -> Iterator[tuple[Segmentation, Overlaps]]:
    names = (*_ARRAYS, "tubes") if "tubes" in packed else _ARRAYS
    arrays = zip(*(np.split(packed[name], packed["segments"]) for name in names), strict=True)
    columns = zip(*(np.split(packed[name], packed["pairs"]) for name in _COLUMNS), strict=True)
    for labels, one, table in zip(packed["map"], arrays, columns, strict=True):
        yield Segmentation(labels, *one), Overlaps(*table)


class ArrayCache:
    """A folder of arrays by name. An entry with another key than the requested one is outdated, and is replaced."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def get(self, name: str, key: str, compute: Callable[[], dict[str, NDArray]]) -> dict[str, NDArray]:
        """The entry; computed and stored when it is missing, outdated or damaged.

        Raises InputError when the folder cannot be written.
        """
        found = self._read(name, key, lambda file: {n: file[n] for n in file.files})
        if found is None:
            found = compute()
            with atomic_write(self._folder / f"{name}.npz") as draft:
                np.savez_compressed(draft, **{_KEY: np.array(key)}, **found)
        return found

    def has(self, name: str, key: str) -> bool:
        """Whether there is an entry that is not outdated; its arrays are not read."""
        return self._read(name, key, lambda file: True) is not None

    def _read(self, name: str, key: str, read: Callable[[Any], Any]) -> Any:
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as file:
                return read(file) if str(file[_KEY]) == key else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None


def fingerprint(code: Iterable[ModuleType], facts: Any) -> str:
    """Key of the data that `code` (modules; a package means its files) computes from `facts`, which must fit in JSON.

    It also depends on the versions of _PACKAGES.
    """
    digest = hashlib.sha256()
    for module in code:
        path = Path(str(module.__file__))
        for file in sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(json.dumps([facts, _versions()], sort_keys=True).encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
