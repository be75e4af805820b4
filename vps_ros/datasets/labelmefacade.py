"""LabelMeFacade: images of streets and facades with the class of each pixel, without instances.

    ROOT/labels/NAME.png, ROOT/images/NAME.jpg

Labels are grey: 0 is unknown, 1..6 are the classes. The data set as published has 8 classes as colours; window and door
are building here. Source: Fröhlich et al., A fast approach for pixelwise labeling of facade images, ICPR 2010.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vps_ros.datasets.folders import load_classes, paired
from vps_ros.datasets.labels import DataSet, Videos, class_table, existing
from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, Taxonomy, parse_classes

LABELME_FACADE = Taxonomy(
    "labelmefacade",
    parse_classes(
        "building #800000, car #800080, pavement #808080, road #804080, sky #008080, vegetation #008000", first_id=1
    ),
)
GROUPS = {
    "building": ("building", "wall"),
    "car": ("car", "truck", "bus"),
    "pavement": ("sidewalk",),
    "vegetation": ("vegetation", "terrain"),
}
"""The classes of Cityscapes that a class may be."""
_TABLE = class_table({c: c for c in LABELME_FACADE.by_id} | {0: VOID_ID, VOID_ID: VOID_ID})
_EXPECTED = "labels of LabelMeFacade are grey: 0 for unknown, classes 1..6"


load = partial(load_classes, table=_TABLE, expected=_EXPECTED)
"""Labels of a file; raises InputError when a value is no class."""


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled images, each a video of its own; raises InputError when the folder holds none."""
    root = existing(root)
    if not (root / "labels").is_dir():
        raise InputError(f"{root}: holds no labels of LabelMeFacade; expected labels/NAME.png and images/NAME.jpg")
    return paired(root / "labels", root / "images", split, load)


DATA_SET = DataSet(
    "labelmefacade",
    LABELME_FACADE,
    read_truth,
    groups=GROUPS,
    classes_only=True,
    terms="LabelMeFacade: for non-commercial research only",
)
