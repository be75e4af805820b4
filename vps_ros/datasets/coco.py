"""COCO's instances: still images with polygons of things, of which those that streets show are read.

    ROOT/annotations/instances_SPLIT.json, ROOT/SPLIT/FILE_NAME       as downloaded
    ROOT/instances.json, ROOT/images/FILE_NAME

Every object of 80 classes is annotated, and nothing else: what no polygon covers is no person, no car, and so on. Where
masks overlap, the smaller object is seen. Crowds are void. A person on or beside a bicycle or a motorcycle may be a
rider, a class that COCO does not have. Source: Lin et al., Microsoft COCO, ECCV 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets import rle
from vps_ros.datasets.labels import DataSet, LabelledFrame, LabelMap, Videos, existing_folder, listed
from vps_ros.errors import InputError
from vps_ros.reading import JsonValue, load_json
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, ClassInfo, Taxonomy

_THINGS = ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck")
_CLASSES = ("traffic light", "stop sign")
PERSON_OR_RIDER, OTHER = "person or rider", "other"
COCO_STREETS = Taxonomy(
    "coco-streets",
    tuple(
        ClassInfo(i, name, name in _THINGS, (40 * (i % 6), 60 * (i % 4), 25 * i))
        for i, name in enumerate((*_THINGS, *_CLASSES, PERSON_OR_RIDER, OTHER))
    ),
)
"""`other` is whatever is none of the classes before it, other objects of COCO included."""
GROUPS = {
    "stop sign": ("traffic-sign",),
    PERSON_OR_RIDER: ("person", "rider"),
    OTHER: (*(c.name for c in CITYSCAPES.classes if not c.isthing), "void"),
}
"""The classes of Cityscapes that a class may be."""
_ID = {c.name: c.id for c in COCO_STREETS.classes}
_MARGIN = 5
"""Side of the square, in pixels, by which polygons are widened: their edges are coarse."""
_TOUCHES = 0.2
"""Share of the box of a person, or of the cycle, in the other's from which on the person may be a rider."""


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled images, each a video of its own.

    Raises InputError when the folder holds no JSON of instances, or the JSON is not COCO's.
    """
    path, images = _find(existing_folder(root), split)
    document = load_json(path, "instances of COCO are one JSON with images, annotations and categories")
    names = {c.get("id", int): c.get("name", str) for c in document.items("categories")}
    objects: dict[int, list[JsonValue]] = {}
    for annotation in document.items("annotations"):
        if annotation.get("category_id", int) not in names:
            raise annotation.error("has a category_id that the categories lack")
        objects.setdefault(annotation.get("image_id", int), []).append(annotation)
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for image in document.items("images"):
        file = image.get("file_name", str)
        size = image.get("width", int), image.get("height", int)
        mine = objects.get(image.get("id", int), [])
        name = Path(file).stem
        read = partial(_labels, size, mine, names)
        videos[name] = {name: LabelledFrame(name, name, f"{path}: {file}", read, images / file)}
    if not videos:
        raise InputError(f"{path}: lists no images")
    return videos


def _find(root: Path, split: str | None) -> tuple[Path, Path]:
    """The JSON and the folder of the images."""
    if split:
        return root / "annotations" / f"instances_{split}.json", root / split
    if (root / "instances.json").is_file():
        return root / "instances.json", root / "images"
    there = sorted(p.stem.removeprefix("instances_") for p in root.glob("annotations/instances_*.json"))
    if len(there) == 1:
        return _find(root, there[0])
    raise InputError(
        f"{root}: holds no instances.json, and annotations/instances_SPLIT.json for "
        f"{listed(there) or 'no split'}; name one split"
    )


def _labels(size: tuple[int, int], annotations: Sequence[JsonValue], names: dict[int, str]) -> LabelMap:
    width, height = size
    semantic = np.full((height, width), _ID[OTHER], np.uint8)
    instance = np.zeros((height, width), np.uint16)
    boxes = [(names[a.get("category_id", int)], _box(a)) for a in annotations]
    cycles = [box for name, box in boxes if name in ("bicycle", "motorcycle")]
    found = []
    for number, (annotation, (name, box)) in enumerate(zip(annotations, boxes, strict=True), 1):
        crowd = bool(annotation.get("iscrowd", int))
        mask = _mask(annotation, size)
        if name == "person" and any(_overlap_of_smaller(box, cycle) > _TOUCHES for cycle in cycles):
            name = PERSON_OR_RIDER
        # Crowds lie below everything, then the large below the small.
        found.append((not crowd, -int(mask.sum()), number, name, mask))
    for separate, _, number, name, mask in sorted(found, key=lambda one: one[:3]):
        if name in _ID:
            around = cv2.dilate(mask, np.ones((_MARGIN, _MARGIN), np.uint8)) > mask
            semantic[around & (instance == 0) & (semantic == _ID[OTHER])] = VOID_ID
        inside = mask > 0
        semantic[inside] = _ID.get(name, _ID[OTHER]) if separate else VOID_ID
        instance[inside] = number if separate and name in _THINGS else 0
    return LabelMap(semantic, instance)


def _mask(annotation: JsonValue, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [H, W], 1 inside."""
    width, height = size
    shape = annotation.at("segmentation")
    if isinstance(shape.value, dict):
        mask = rle.from_json(shape.value, f"{shape.path}: {shape.place}").mask()
        if mask.shape != (height, width):
            raise shape.error(f"is {mask.shape[1]}x{mask.shape[0]}, but its image {width}x{height}")
        return mask.astype(np.uint8)
    polygons = []
    for polygon in shape.items():
        corners = polygon.value
        if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2:
            raise polygon.error("is no polygon [x, y, x, y, ...] of three corners or more")
        polygons.append(np.array(corners, np.float64).reshape(-1, 2))
    mask = np.zeros((height, width), np.uint8)
    if not polygons:
        return mask
    low, high = (f([f(p, axis=0) for p in polygons], axis=0) for f in (np.min, np.max))
    x0, y0 = np.clip(np.floor(low).astype(int), 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(high).astype(int) + 1, 1, (width, height))
    # OpenCV fills each pixel that an edge touches: drawn twice as large, those are left out that are covered in half.
    large = np.zeros((2 * (y1 - y0), 2 * (x1 - x0)), np.uint8)
    for corners in polygons:
        points = np.round(((corners - (x0, y0)) * 2 - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(large, [points[:, None]], 4, shift=4)
    mask[y0:y1, x0:x1] = cv2.resize(large, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA) > 2
    return mask


def _box(annotation: JsonValue) -> tuple[float, float, float, float]:
    """x, y, width, height."""
    box = annotation.at("bbox").value
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, (int, float)) for v in box):
        raise annotation.at("bbox").error("is not [x, y, width, height]")
    return tuple(box)


def _overlap_of_smaller(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection of two boxes over the smaller one."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / max(min(a[2] * a[3], b[2] * b[3]), 1e-6)


DATA_SET = DataSet(
    "coco",
    COCO_STREETS,
    read_truth,
    groups=GROUPS,
    classes_only=True,
    terms="COCO: annotations CC BY 4.0; each image has a licence of its own",
)
