"""CamVid and LabelMeFacade: street images with the class of each pixel, without instances.

    ROOT/labels/SEQUENCE/NAME.png, ROOT/images/SEQUENCE/NAME.jpg      CamVid; a split names sequences, comma-separated
    ROOT/SPLITannot/NAME.png, ROOT/SPLIT/NAME.png                     CamVid in SegNet's layout: train, val, test
    ROOT/labels/NAME.png, ROOT/images/NAME.jpg                        LabelMeFacade

Labels are grey. CamVid: 0..10 are the 11 classes, 11 is void. LabelMeFacade: 0 is unknown, 1..6 are the classes; it is
published with 8 classes as colours, of which window and door are building here. Sources: Brostow et al., Semantic
object classes in video, Pattern Recognition Letters 2009; the 11 classes and their coding: Badrinarayanan et al.,
SegNet, 2015. Fröhlich et al., A fast approach for pixelwise labeling of facade images, ICPR 2010.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from vps_ros.datasets.folders import labels_with_images, load_classes
from vps_ros.datasets.labels import DataSet, LabelledFrame, Videos, class_table, existing_folder, listed
from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, Taxonomy, parse_classes

_CAMVID = Taxonomy(
    "camvid",
    parse_classes("""
    sky #808080, building #800000, pole #c0c080, road #804080, pavement #3c28de, tree #808000, sign #c08080,
    fence #404080, car #400080, pedestrian #404000, bicyclist #0080c0
    """),
)
_LABELME_FACADE = Taxonomy(
    "labelmefacade",
    parse_classes(
        "building #800000, car #800080, pavement #808080, road #804080, sky #008080, vegetation #008000", first_id=1
    ),
)
_load_camvid = partial(
    load_classes,
    table=class_table({c: c for c in _CAMVID.by_id} | {11: VOID_ID, VOID_ID: VOID_ID}),
    expected="labels of CamVid are grey: classes 0..10, and 11 for void",
)
_load_facade = partial(
    load_classes,
    table=class_table({c: c for c in _LABELME_FACADE.by_id} | {0: VOID_ID, VOID_ID: VOID_ID}),
    expected="labels of LabelMeFacade are grey: 0 for unknown, classes 1..6",
)


def _read_camvid(root: str | Path, split: str | None = None) -> Videos:
    root = existing_folder(root)
    if (root / "labels").is_dir():
        return labels_with_images(root / "labels", root / "images", split, _load_camvid, tracked=True)
    splits = sorted(p.name.removesuffix("annot") for p in root.glob("*annot") if p.is_dir())
    if split and split not in splits:
        raise InputError(f"{root}: has no split {split!r} (splits there: {listed(splits) or 'none'})")
    if not splits:
        raise InputError(f"{root}: holds no labels; expected labels/SEQUENCE/NAME.png, or SPLITannot/NAME.png")
    videos: dict[str, Mapping[str, LabelledFrame]] = {}
    for name in [split] if split else splits:
        videos.update(labels_with_images(root / f"{name}annot", root / name, None, _load_camvid))
    return videos


def _read_facade(root: str | Path, split: str | None = None) -> Videos:
    root = existing_folder(root)
    if not (root / "labels").is_dir():
        raise InputError(f"{root}: holds no labels of LabelMeFacade; expected labels/NAME.png and images/NAME.jpg")
    return labels_with_images(root / "labels", root / "images", split, _load_facade)


CAMVID = DataSet(
    "camvid",
    _CAMVID,
    _read_camvid,
    # Its classes were merged from the 32 of the data set: walls are buildings in SegNet's list, but garden walls are
    # sometimes labelled as fences.
    groups={
        "building": ("building", "wall"),
        "pavement": ("sidewalk",),
        "tree": ("vegetation", "terrain"),
        "sign": ("traffic-light", "traffic-sign"),
        "fence": ("fence", "wall"),
        "car": ("car", "truck", "bus", "train"),
        "pedestrian": ("person",),
        "bicyclist": ("rider", "bicycle", "motorcycle"),
    },
    classes_only=True,
    terms="CamVid: for research only",
)
LABELME_FACADE = DataSet(
    "labelmefacade",
    _LABELME_FACADE,
    _read_facade,
    groups={
        "building": ("building", "wall"),
        "car": ("car", "truck", "bus"),
        "pavement": ("sidewalk",),
        "vegetation": ("vegetation", "terrain"),
    },
    classes_only=True,
    terms="LabelMeFacade: for non-commercial research only",
)
