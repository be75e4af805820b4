"""KITTI-STEP panoptic maps: RGB PNG with the class in R and the instance in G and B, and their folders.

MOTChallenge-STEP has the same coding and layout, and 7 classes of its own, of which person is a thing.

Source: the STEP benchmark (Weber et al., STEP: Segmenting and Tracking Every Pixel, NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.folders import IMAGE_SUFFIXES, map_writer, subfolders
from vps_ros.datasets.images import RGB, load_png, save_png
from vps_ros.datasets.labels import (
    LabelledFrame,
    LabelMap,
    VideoDataSet,
    Videos,
    check_classes,
    existing_folder,
    listed,
)
from vps_ros.errors import InputError
from vps_ros.files import list_files
from vps_ros.label_maps import look_up
from vps_ros.taxonomy import KITTI_STEP, MOTCHALLENGE_STEP, VOID_ID, Taxonomy

MAX_INSTANCE = 65535
"""The largest instance id that G and B hold."""
MAPS = "panoptic_maps"
IMAGES = "images"
SPLITS = ("train", "val", "test", "training", "testing")
MOTCHALLENGE_SPLITS = {"train": ("0002", "0009"), "test": ("0001", "0007")}
"""The sequences of each split of MOTChallenge-STEP, each named as those of MOTChallenge."""

Sequences = dict[str, dict[str, Path]]
"""Sequence name -> frame name (file name without suffix) -> file; sequences by name, frames in natural order."""
Found = TypeVar("Found")


def encode(semantic: NDArray[np.uint8], instance: NDArray[np.integer], where: str | Path = "map") -> NDArray[np.uint8]:
    """Panoptic map as RGB.

    Args:
        semantic: uint8 [H, W] class ids; 255 is void.
        instance: integer [H, W], 0..65535.
        where: the frame's name in errors.

    Returns:
        uint8 [H, W, 3]: R class, G instance // 256, B instance % 256.

    Raises:
        InputError: an instance is outside 0..65535, a class outside 0..255, or the shapes differ.
    """
    semantic, instance = np.asarray(semantic), np.asarray(instance)
    if semantic.ndim != 2 or semantic.shape != instance.shape:
        raise InputError(f"{where}: classes {semantic.shape} and instances {instance.shape} must be one [H, W]")
    _check_range(semantic, VOID_ID, f"{where}: class", "KITTI-STEP holds 0..255")
    _check_range(instance, MAX_INSTANCE, f"{where}: instance", f"KITTI-STEP holds 0..{MAX_INSTANCE}; renumber them")
    rgb = np.empty((*semantic.shape, 3), np.uint8)
    rgb[..., 0] = semantic
    rgb[..., 1] = instance >> 8
    rgb[..., 2] = instance & 255
    return rgb


def decode(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Class ids uint8 [H, W] and instances uint16 [H, W] of a map uint8 [H, W, 3]; the inverse of `encode`."""
    red, green, blue = cv2.split(rgb)
    return red, green.astype(np.uint16) << 8 | blue


def save_map(path: str | Path, semantic: NDArray[np.uint8], instance: NDArray[np.integer]) -> None:
    """Writes one panoptic map as PNG and makes its folder; raises InputError as `encode`, naming the path."""
    rgb = encode(semantic, instance, path)
    save_png(path, rgb)


def load_map(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Class ids uint8 [H, W] and instances uint16 [H, W] of one panoptic map.

    Raises:
        InputError: the file is absent, is not a complete PNG, or is not coded as 8-bit RGB.
    """
    return decode(load_png(path, (RGB,), _EXPECTED))


def labelled(root: str | Path, split: str | None = None, taxonomy: Taxonomy = KITTI_STEP) -> Videos:
    """The maps that `list_maps` finds as labelled frames; a class outside the taxonomy is an InputError when read."""
    maps = list_maps(root, split)
    return {
        s: {f: LabelledFrame(s, f, path, partial(_labels, path, taxonomy)) for f, path in frames.items()}
        for s, frames in maps.items()
    }


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """As `labelled`, with the camera images where they lie under the same ROOT."""
    return with_images(labelled(root, split), root, split)


def labelled_motchallenge(root: str | Path, split: str | None = None) -> Videos:
    """As `labelled`, of MOTChallenge-STEP. Without folders for splits, the sequences of the split are taken.

    Raises InputError when the folder has no sequence of the split.
    """
    try:
        return labelled(root, split, MOTCHALLENGE_STEP)
    except InputError:
        if split not in MOTCHALLENGE_SPLITS:
            raise
    names = MOTCHALLENGE_SPLITS[split]
    videos = {s: frames for s, frames in labelled(root, None, MOTCHALLENGE_STEP).items() if s in names}
    if not videos:
        raise InputError(f"{root}: holds no sequence of split {split!r}, which are {' and '.join(names)}")
    return videos


def read_motchallenge(root: str | Path, split: str | None = None) -> Videos:
    """As `labelled_motchallenge`, with the camera images where they lie under the same ROOT."""
    return with_images(labelled_motchallenge(root, split), root, split)


def with_images(videos: Videos, root: str | Path, split: str | None = None) -> Videos:
    """The frames with their images of ROOT/images or ROOT/image_02, in any layout that `list_images` knows."""
    root = Path(root)
    folders = [base / name for base in (root, *(root / s for s in SPLITS)) for name in (IMAGES, "image_02")]
    if not any(folder.is_dir() for folder in folders):
        return videos
    try:
        images = list_without_split(list_images, root, split)
    except InputError:
        return videos
    return {
        s: {f: replace(one, image=images.get(s, {}).get(f)) for f, one in frames.items()}
        for s, frames in videos.items()
    }


def check_channel_order(labels: LabelMap, taxonomy: Taxonomy, where: object) -> None:
    """Raises InputError when red and blue of a map were swapped, as by a writer that takes B, G, R.

    A map is refused when stuff or void has instances as it is, but neither these nor unknown classes with red and blue
    swapped. A map that is valid both ways is accepted as it is.

    Args:
        labels: uint8 [H, W] and uint16 [H, W], as they were decoded.
    """
    no_thing = ~taxonomy.thing_table
    if not (look_up(labels.semantic, no_thing) & (labels.instance > 0)).any():
        return
    semantic, instance = (labels.instance & 0xFF).astype(np.uint8), labels.instance & 0xFF00 | labels.semantic
    known = np.isin(semantic, (*taxonomy.by_id, VOID_ID)).all()
    if known and not (look_up(semantic, no_thing) & (instance > 0)).any():
        raise InputError(
            f"{where}: red and blue are swapped; write the class as R and the instance as G and B "
            "(OpenCV's imwrite takes B, G, R)"
        )


def map_path(root: str | Path, sequence: str, frame: str) -> Path:
    """Where a panoptic map is written: ROOT/panoptic_maps/SEQUENCE/FRAME.png."""
    return Path(root) / MAPS / sequence / f"{frame}.png"


def image_path(root: str | Path, sequence: str, frame: str, suffix: str = ".png") -> Path:
    """Where a camera image is written: ROOT/images/SEQUENCE/FRAME.png."""
    return Path(root) / IMAGES / sequence / f"{frame}{suffix}"


def list_maps(root: str | Path, split: str | None = None) -> Sequences:
    """Panoptic maps under ROOT/panoptic_maps, or under ROOT itself, as SEQUENCE/FRAME.png or SPLIT/SEQUENCE/FRAME.png.

    Args:
        root: the data set, its `panoptic_maps`, or one split of that.
        split: take only this split (`train`, `val`, ...), where the data set has splits.

    Raises:
        InputError: the folder is absent or holds no map, the split is absent, or a frame occurs twice.
    """
    return _list(Path(root), (MAPS,), (".png",), split, "panoptic maps")


def list_images(root: str | Path, split: str | None = None) -> Sequences:
    """As `list_maps`, for camera images (PNG or JPEG) under ROOT/images, ROOT/image_02, or ROOT itself."""
    return _list(Path(root), (IMAGES, "image_02"), IMAGE_SUFFIXES, split, "images")


def list_embeddings(root: str | Path, split: str | None = None) -> Sequences:
    """As `list_maps`, for embeddings (NPZ) laid out as the maps are, or beside them."""
    return _list(Path(root), (MAPS,), (".npz",), split, "embeddings")


def list_without_split(
    listing: Callable[[str | Path, str | None], Found], root: str | Path, split: str | None
) -> Found:
    """As `listing`, but `split` is ignored for a folder without splits."""
    try:
        return listing(root, split)
    except InputError:
        return listing(root, None)


def refuse_missing(
    missing: set[tuple[str, str]],
    among: Mapping[str, Mapping[str, object]],
    what: str,
    remedy: str,
    kind: str = "frame",
) -> None:
    """Raises InputError that names the missing (sequence, frame) pairs, if any.

    Args:
        among: sequence -> its frames; one that lacks all of them is named without its frames.
        what: file and problem, such as "maps/: no image for".
        kind: what a pair is.
    """
    names = []
    for sequence in sorted({s for s, _ in missing}):
        frames = sorted(f for s, f in missing if s == sequence)
        every = len(frames) == len(among[sequence])
        names += [f"all of {sequence}"] if every else [f"{sequence}/{f}" for f in frames]
    if names:
        raise InputError(f"{what} {len(missing)} {kind}(s): {listed(names, 6)}; {remedy}")


def _labels(path: Path, taxonomy: Taxonomy) -> LabelMap:
    labels = LabelMap(*load_map(path))
    check_channel_order(labels, taxonomy, path)
    check_classes(labels.semantic, taxonomy, path)
    return labels


def _list(root: Path, folders: tuple[str, ...], suffixes: tuple[str, ...], split: str | None, what: str) -> Sequences:
    root = existing_folder(root)
    bases = [root / name for name in folders if (root / name).is_dir()] or [root]
    # The layout of KITTI tracking: training/image_02/0000/000000.png
    bases = [b / f if (b / f).is_dir() else b for base in bases for b in _splits(base, split) for f in folders]
    found: Sequences = {}
    reserved = {*SPLITS, MAPS, IMAGES}
    for base in dict.fromkeys(bases):
        for name, folder in sorted(subfolders(base).items()):
            if name in reserved:
                continue
            for path in list_files(folder, suffixes):
                frames = found.setdefault(name, {})
                if path.stem in frames:
                    other = frames[path.stem]
                    raise InputError(f"{path}: frame {path.stem} of sequence {name} is in {other} too; keep one")
                frames[path.stem] = path
    if not found:
        loose = any(list_files(base, suffixes) for base in bases)
        hint = "put the files into one folder per sequence" if loose else "expected SEQUENCE/FRAME" + suffixes[0]
        raise InputError(f"{root}: holds no {what}; {hint}")
    return dict(sorted(found.items()))


def _splits(base: Path, split: str | None) -> list[Path]:
    """`base` itself and its splits, or the one split that is asked for."""
    there = [base / name for name in SPLITS if (base / name).is_dir()]
    if split is None:
        return [base, *there]
    if base / split in there:
        return [base / split]
    names = ", ".join(p.name for p in there) or "none"
    raise InputError(f"{base}: has no split {split!r} (splits there: {names}); leave the split out or name one of them")


_EXPECTED = "a KITTI-STEP map is 8-bit RGB (R class, G and B instance)"


def _check_range(values: NDArray, high: int, what: str, hint: str) -> None:
    if values.dtype.kind not in "ui":
        raise InputError(f"{what} ids are {values.dtype}, not integers; {hint}")
    limits = np.iinfo(values.dtype)
    if not values.size or (limits.min >= 0 and limits.max <= high):
        return
    for value in (int(values.min()), int(values.max())):
        if not 0 <= value <= high:
            raise InputError(f"{what} {value} cannot be written; {hint}")


def _encode(labels: LabelMap, where: str) -> NDArray[np.uint8]:
    return encode(*labels, where)


_writer = partial(map_writer, encode=_encode)
"""Writes predictions as ROOT/SEQUENCE/FRAME.png, all or none."""
DATA_SET = VideoDataSet(
    "kitti-step",
    KITTI_STEP,
    read_truth,
    labelled,
    _writer,
    terms="KITTI-STEP: CC BY-NC-SA 3.0, non-commercial",
)
MOTCHALLENGE = VideoDataSet(
    "motchallenge-step",
    MOTCHALLENGE_STEP,
    read_motchallenge,
    labelled_motchallenge,
    _writer,
    terms="MOTChallenge-STEP: CC BY-NC-SA 3.0, non-commercial",
)
