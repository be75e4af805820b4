"""CamVid with its 11 classes: street videos with the class of each pixel, objects not told apart.

    ROOT/labels/SEQUENCE/NAME.png, ROOT/images/SEQUENCE/NAME.jpg      a split names sequences, separated by commas
    ROOT/SPLITannot/NAME.png, ROOT/SPLIT/NAME.png                     SegNet's layout: train, val, test

Labels are grey: 0..10 are the classes, 11 is void. Source: Brostow et al., Semantic object classes in video, Pattern
Recognition Letters 2009; the 11 classes and their coding: Badrinarayanan et al., SegNet, 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vps_ros.datasets.image_folders import paired
from vps_ros.datasets.labels import LabelledFrame, LabelMap, Videos, existing, listed
from vps_ros.datasets.png import GREY, PALETTE, load_png
from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, ClassInfo, Taxonomy

CAMVID = Taxonomy(
    "camvid",
    tuple(
        ClassInfo(i, name, False, color)
        for i, (name, color) in enumerate(
            (
                ("sky", (128, 128, 128)),
                ("building", (128, 0, 0)),
                ("pole", (192, 192, 128)),
                ("road", (128, 64, 128)),
                ("pavement", (60, 40, 222)),
                ("tree", (128, 128, 0)),
                ("sign", (192, 128, 128)),
                ("fence", (64, 64, 128)),
                ("car", (64, 0, 128)),
                ("pedestrian", (64, 64, 0)),
                ("bicyclist", (0, 128, 192)),
            )
        )
    ),
)
GROUPS = {
    "building": ("building", "wall"),
    "pavement": ("sidewalk",),
    "tree": ("vegetation", "terrain"),
    "sign": ("traffic-light", "traffic-sign"),
    "fence": ("fence", "wall"),
    "car": ("car", "truck", "bus", "train"),
    "pedestrian": ("person",),
    "bicyclist": ("rider", "bicycle", "motorcycle"),
}
"""What the 32 classes of the data set became in these 11, in Cityscapes' names.

Walls are buildings in the published list of SegNet; garden walls are sometimes labelled as fences.
"""
TERMS = "CamVid: for research only"
_VOID = 11
_EXPECTED = "labels of CamVid are grey: classes 0..10, and 11 for void"


def load(path: Path) -> LabelMap:
    """Labels of a file; raises InputError when a value is no class."""
    values = load_png(path, (GREY, PALETTE), _EXPECTED)
    wrong = (values > _VOID) & (values != VOID_ID)
    if wrong.any():
        raise InputError(f"{path}: value {listed(np.unique(values[wrong]))} stands for no class; {_EXPECTED}")
    return LabelMap(np.where(values >= _VOID, VOID_ID, values).astype(np.uint8), np.zeros(values.shape, np.uint8))


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames; raises InputError when the folder holds none, or not the split."""
    root = existing(root)
    if (root / "labels").is_dir():
        return paired(root / "labels", root / "images", split, load, linked=True)
    splits = sorted(p.name.removesuffix("annot") for p in root.glob("*annot") if p.is_dir())
    if split and split not in splits:
        raise InputError(f"{root}: has no split {split!r} (splits there: {listed(splits) or 'none'})")
    if not splits:
        raise InputError(f"{root}: holds no labels; expected labels/SEQUENCE/NAME.png, or SPLITannot/NAME.png")
    videos: dict[str, Mapping[str, LabelledFrame]] = {}
    for name in [split] if split else splits:
        videos.update(paired(root / f"{name}annot", root / name, None, load))
    return videos
