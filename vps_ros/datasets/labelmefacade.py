"""LabelMeFacade: still images of streets and facades, with the class of each pixel, objects not told apart.

    ROOT/labels/NAME.png, ROOT/images/NAME.jpg

Labels are grey: 0 is unknown, 1..6 are the classes. The data set as published has 8 classes as colours; window and door
are building here. Source: Fröhlich et al., A fast approach for pixelwise labeling of facade images, ICPR 2010.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vps_ros.datasets.image_folders import paired
from vps_ros.datasets.labels import LabelMap, Videos, existing, listed
from vps_ros.datasets.png import GREY, PALETTE, load_png
from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, ClassInfo, Taxonomy

LABELME_FACADE = Taxonomy(
    "labelmefacade",
    tuple(
        ClassInfo(i, name, False, color)
        for i, (name, color) in enumerate(
            (
                ("building", (128, 0, 0)),
                ("car", (128, 0, 128)),
                ("pavement", (128, 128, 128)),
                ("road", (128, 64, 128)),
                ("sky", (0, 128, 128)),
                ("vegetation", (0, 128, 0)),
            ),
            1,
        )
    ),
)
GROUPS = {
    "building": ("building", "wall"),
    "car": ("car", "truck", "bus"),
    "pavement": ("sidewalk",),
    "vegetation": ("vegetation", "terrain"),
}
"""In Cityscapes' names."""
TERMS = "LabelMeFacade: for non-commercial research only"
_EXPECTED = "labels of LabelMeFacade are grey: 0 for unknown, classes 1..6"


def load(path: Path) -> LabelMap:
    """Labels of a file; raises InputError when a value is no class."""
    values = load_png(path, (GREY, PALETTE), _EXPECTED)
    wrong = ~np.isin(values, (0, *LABELME_FACADE.ids, VOID_ID))
    if wrong.any():
        raise InputError(f"{path}: value {listed(np.unique(values[wrong]))} stands for no class; {_EXPECTED}")
    return LabelMap(np.where(values == 0, VOID_ID, values).astype(np.uint8), np.zeros(values.shape, np.uint8))


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled images, each a video of its own; raises InputError when the folder holds none."""
    root = existing(root)
    if not (root / "labels").is_dir():
        raise InputError(f"{root}: holds no labels of LabelMeFacade; expected labels/NAME.png and images/NAME.jpg")
    return paired(root / "labels", root / "images", split, load)
