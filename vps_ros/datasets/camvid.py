"""CamVid with its 11 classes: street videos with the class of each pixel, without instances.

    ROOT/labels/SEQUENCE/NAME.png, ROOT/images/SEQUENCE/NAME.jpg      a split names sequences, separated by commas
    ROOT/SPLITannot/NAME.png, ROOT/SPLIT/NAME.png                     SegNet's layout: train, val, test

Labels are grey: 0..10 are the classes, 11 is void. Source: Brostow et al., Semantic object classes in video, Pattern
Recognition Letters 2009; the 11 classes and their coding: Badrinarayanan et al., SegNet, 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from vps_ros.datasets.folders import load_classes, paired
from vps_ros.datasets.labels import DataSet, LabelledFrame, Videos, class_table, existing, listed
from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, Taxonomy, parse_classes

CAMVID = Taxonomy(
    "camvid",
    parse_classes("""
    sky #808080, building #800000, pole #c0c080, road #804080, pavement #3c28de, tree #808000, sign #c08080,
    fence #404080, car #400080, pedestrian #404000, bicyclist #0080c0
    """),
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
"""The classes of Cityscapes that these 11 may be; they were merged from the 32 classes of the data set.

Walls are buildings in SegNet's list; garden walls are sometimes labelled as fences.
"""
_TABLE = class_table({c: c for c in CAMVID.by_id} | {11: VOID_ID, VOID_ID: VOID_ID})
_EXPECTED = "labels of CamVid are grey: classes 0..10, and 11 for void"


load = partial(load_classes, table=_TABLE, expected=_EXPECTED)
"""Labels of a file; raises InputError when a value is no class."""


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames; raises InputError when the folder holds none, or not the split."""
    root = existing(root)
    if (root / "labels").is_dir():
        return paired(root / "labels", root / "images", split, load, tracked=True)
    splits = sorted(p.name.removesuffix("annot") for p in root.glob("*annot") if p.is_dir())
    if split and split not in splits:
        raise InputError(f"{root}: has no split {split!r} (splits there: {listed(splits) or 'none'})")
    if not splits:
        raise InputError(f"{root}: holds no labels; expected labels/SEQUENCE/NAME.png, or SPLITannot/NAME.png")
    videos: dict[str, Mapping[str, LabelledFrame]] = {}
    for name in [split] if split else splits:
        videos.update(paired(root / f"{name}annot", root / name, None, load))
    return videos


DATA_SET = DataSet("camvid", CAMVID, read_truth, groups=GROUPS, classes_only=True, terms="CamVid: for research only")
