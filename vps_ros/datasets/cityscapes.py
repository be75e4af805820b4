"""Cityscapes: single images with fine labels.

    ROOT/gtFine/SPLIT/CITY/NAME_gtFine_instanceIds.png     truth, 16 bits: label, or label * 1000 + number for an object
    ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png       camera images

    ROOT/label_ids/NAME.png or SEQUENCE/NAME.png           another layout: labels, 8 bits
    ROOT/instance_ids/NAME.png or SEQUENCE/NAME.png        as instanceIds; or 8 bits: a number, 255 for none
    ROOT/images/NAME.jpg or SEQUENCE/NAME.jpg

Numbers of the second layout are those of one image; its splits are sequences, separated by commas.
A label is an id of the data set's own list of 34, of which 19 are evaluated; the others are void. A thing without a
number is a crowd. Source: Cordts et al., The Cityscapes Dataset, CVPR 2016.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.folders import labels_with_images, subfolders
from vps_ros.datasets.images import GREY, GREY16, load_png
from vps_ros.datasets.labels import (
    DataSet,
    LabelledFrame,
    LabelMap,
    Videos,
    class_table,
    existing_folder,
    listed,
    map_classes,
)
from vps_ros.errors import InputError
from vps_ros.files import list_files
from vps_ros.taxonomy import CITYSCAPES, VOID_ID

LABELS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The data set's own label of each class 0..18."""
TERMS = "Cityscapes: for non-commercial purposes only"
DIVISOR = 1000
_TABLE = class_table(dict.fromkeys(range(34), VOID_ID) | {label: i for i, label in enumerate(LABELS)})
_SUFFIX = "_gtFine_instanceIds.png"
_EXPECTED = "instanceIds of Cityscapes are grey, 16 bits (label, or label * 1000 + number)"


def decode(codes: NDArray[np.uint16], where: object = "map") -> LabelMap:
    """Labels of an instanceIds map [H, W]: instances from 1 on, 0 for crowds and stuff.

    Raises InputError when a code stands for no label.
    """
    numbered = codes >= DIVISOR
    label = np.where(numbered, codes // DIVISOR, codes)
    semantic = map_classes(label, _TABLE, where, _EXPECTED, codes)
    instance = np.where(numbered & CITYSCAPES.thing_table[semantic], codes % DIVISOR + 1, 0)
    return LabelMap(semantic, instance.astype(np.uint16))


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled images, each a video of its own.

    Raises InputError when the folder holds none, or not the split.
    """
    root = existing_folder(root)
    if (root / "label_ids").is_dir():
        return labels_with_images(root / "label_ids", root / "images", split, partial(_load_numbered, root))
    splits = subfolders(root / "gtFine")
    if split and split not in splits:
        raise InputError(
            f"{root / 'gtFine'}: has no split {split!r} (splits there: {listed(sorted(splits)) or 'none'})"
        )
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for name in [split] if split else sorted(splits):
        for city, folder in sorted(subfolders(splits[name]).items()):
            for path in list_files(folder, (".png",)):
                if not path.name.endswith(_SUFFIX):
                    continue
                image = path.name.removesuffix(_SUFFIX)
                image_file = root / "leftImg8bit" / name / city / f"{image}_leftImg8bit.png"
                videos[image] = {image: LabelledFrame(image, image, path, partial(_load, path), image_file)}
    if not videos:
        raise InputError(f"{root}: holds no labels of Cityscapes; expected gtFine/SPLIT/CITY/NAME{_SUFFIX}")
    return videos


def _load(path: Path) -> LabelMap:
    return decode(load_png(path, (GREY16,), _EXPECTED), path)


def _load_numbered(root: Path, path: Path) -> LabelMap:
    """A file of label_ids with that of instance_ids."""
    expected = "label_ids are grey, 8 bits; instance_ids are grey, of 8 bits (a number, 255 for none) or of 16"
    labels = load_png(path, (GREY,), expected)
    other = root / "instance_ids" / path.relative_to(root / "label_ids")
    codes = load_png(other, (GREY, GREY16), expected)
    if codes.shape != labels.shape:
        raise InputError(f"{other}: is not of the size of {path}")
    if codes.dtype == np.uint16:
        return decode(codes, other)
    semantic = decode(labels.astype(np.uint16), path).semantic
    instance = np.where(CITYSCAPES.thing_table[semantic] & (codes != VOID_ID), codes.astype(np.uint16) + 1, 0)
    return LabelMap(semantic, instance)


DATA_SET = DataSet("cityscapes", CITYSCAPES, read_truth, terms=TERMS)
