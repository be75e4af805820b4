"""VIPER, as downloaded and in its video panoptic form.

    ROOT/SPLIT/cls/SEQUENCE/SEQUENCE_FRAME.png       class ids; palette or grey
    ROOT/SPLIT/inst/SEQUENCE/SEQUENCE_FRAME.png      RGB: R the class, 256 G + B the instance; black where no thing is
    ROOT/SPLIT/img/SEQUENCE/SEQUENCE_FRAME.jpg       camera images
    ROOT/viper_panoptic_val_day_video.json           video panoptic form: images, annotations, categories
    ROOT/val_day/panoptic_video/SEQUENCE_FRAME.png   its maps
    PREDICTIONS/pred.json                            annotations
    PREDICTIONS/pan_pred/SEQUENCE_FRAME.png          their maps

Class ids here are those of the downloaded maps. Sources: Richter et al., Playing for Benchmarks, ICCV 2017; Kim et al.,
Video Panoptic Segmentation, CVPR 2020.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from vps_ros.datasets.coco_panoptic import (
    PREDICTED_MAPS,
    PREDICTIONS,
    ClassIds,
    frame_names,
    panoptic_videos,
    panoptic_writer,
)
from vps_ros.datasets.folders import png_videos, subfolders
from vps_ros.datasets.images import GREY, PALETTE, RGB, load_png
from vps_ros.datasets.labels import LabelMap, VideoDataSet, Videos, class_table, existing_folder, listed, map_classes
from vps_ros.errors import InputError
from vps_ros.files import list_files
from vps_ros.reading import JsonValue, load_json
from vps_ros.taxonomies import VIPER
from vps_ros.taxonomy import VOID_ID

SPLIT = "val"
PANOPTIC_SPLIT = "val_day"
"""The default splits."""
CATEGORIES = (
    *("sky", "road", "sidewalk", "terrain", "tree", "vegetation", "building", "infrastructure", "fence", "billboard"),
    *("trafficsign", "mobilebarrier", "trash", "trafficlight", "firehydrant", "chair", "trashcan", "person"),
    *("motorcycle", "car", "van", "bus", "truck"),
)
"""The category ids 0..22 of the video panoptic form: stuff first, then things."""
IGNORED = (0, 1, 5, 21, 22, 28, 29, 30, 31)
"""Unlabeled, ambiguous, railtrack, animal, bicycle, trailer, train, plane, boat: in the maps, but not evaluated."""
_TABLE = class_table({c: c for c in VIPER.by_id} | dict.fromkeys((*IGNORED, VOID_ID), VOID_ID))
_CLASSES = "classes of VIPER are grey or palette (class ids 0..31)"
_INSTANCES = "instances of VIPER are 8-bit RGB (R class, 256 G + B instance)"


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of a folder in either form.

    Raises:
        InputError: it is neither, maps of classes and instances do not agree, or a JSON is inconsistent.
    """
    root = existing_folder(root)
    document = root / f"viper_panoptic_{split or PANOPTIC_SPLIT}_video.json"
    if document.is_file():
        return _read_json(document, root / (split or PANOPTIC_SPLIT) / "panoptic_video")
    return _read_maps(root / (split or SPLIT) if split or not (root / "cls").is_dir() else root)


def read_predictions(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of a folder of predictions; `split` is ignored.

    Category ids are those of the `categories` in pred.json; without these, those of the video panoptic form.
    Annotations without `image_id` belong to the sorted maps in their order.
    """
    root = existing_folder(root)
    return _read_json(root / PREDICTIONS, root / PREDICTED_MAPS)


DATA_SET = VideoDataSet(
    "viper",
    VIPER,
    read_truth,
    read_predictions,
    partial(panoptic_writer, taxonomy=VIPER),
    protocol="cityscapes-vps",
)


def load_maps(classes: str | Path, instances: str | Path) -> LabelMap:
    """Labels of one frame as it is downloaded: uint8 and uint16 [H, W].

    Classes that are not evaluated are void. A thing without an instance is a crowd (instance 0).

    Raises:
        InputError: a file cannot be read, is coded otherwise or of another size, or a class id is unknown.
    """
    ids = load_png(classes, (PALETTE, GREY), _CLASSES)
    rgb = load_png(instances, (RGB,), _INSTANCES)
    if rgb.shape[:2] != ids.shape:
        sizes = ["{1}x{0}".format(*image.shape) for image in (rgb, ids)]
        raise InputError(f"{instances}: is {sizes[0]}, but {classes} is {sizes[1]}; copy both again")
    semantic = map_classes(ids, _TABLE, classes, _CLASSES)
    instance = rgb[..., 1].astype(np.uint16) << 8 | rgb[..., 2]
    return LabelMap(semantic, np.where(VIPER.thing_table[semantic], instance, 0).astype(np.uint16))


def _read_maps(folder: Path) -> Videos:
    classes, instances = folder / "cls", folder / "inst"

    def load(path: Path) -> LabelMap:
        return load_maps(path, _instances_of(path, instances))

    def image(sequence: str, frame: str) -> Path:
        return folder / "img" / sequence / f"{frame}.jpg"

    expected = f"classes of VIPER; expected {folder.name}/cls/SEQUENCE/SEQUENCE_FRAME.png"
    videos = png_videos(folder, subfolders(classes), load, expected, image)
    frames = [f for video in videos.values() for f in video.values()]
    absent = [f.name for f in frames if not _instances_of(Path(f.where), instances).is_file()]
    if absent:
        raise InputError(f"{instances}: lacks the instances of {len(absent)} frame(s): {listed(absent)}; add them")
    return videos


def _instances_of(path: Path, instances: Path) -> Path:
    return instances / path.parent.name / path.name


def _read_json(path: Path, maps: Path) -> Videos:
    document = load_json(path, f"predictions are {PREDICTIONS} and {PREDICTED_MAPS}/SEQUENCE_FRAME.png")
    if "images" in document:
        by_order = [Path(image.get("file_name", str)).stem for image in document.items("images")]
    else:
        by_order = [p.stem for p in list_files(maps, (".png",))]
    frames = frame_names(document, by_order)
    return panoptic_videos(document, frames, VIPER, _class_ids(document), lambda frame, _: maps / f"{frame}.png")


def _class_ids(document: JsonValue) -> ClassIds:
    by_name = {c.name: c.id for c in VIPER.classes}
    table = {i: by_name[name] for i, name in enumerate(CATEGORIES)}
    if "categories" in document:
        listed_ids = {}
        for category in document.items("categories"):
            name = category.get("name", str)
            if name not in by_name:
                raise category.error(f"is named {name!r}, unknown to viper; is it another data set's file?")
            listed_ids[category.get("id", int)] = by_name[name]
        table = listed_ids

    def class_id(segment: JsonValue) -> int:
        number = segment.get("category_id", int)
        if number not in table:
            raise segment.error(f"has category_id {number}, not one of viper's here ({min(table)}..{max(table)})")
        return table[number]

    return class_id
