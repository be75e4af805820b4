"""Cityscapes-VPS: 6 of the 30 frames of each video are labelled, in COCO's panoptic style.

    ROOT/panoptic_gt_val_city_vps.json       truth: images, annotations, categories
    ROOT/val/panoptic_video/<file_name>      its maps
    ROOT/val/img/<file_name>                 camera images
    PREDICTIONS/pred.json                    annotations
    PREDICTIONS/pan_pred/<image id>.png      their maps

An image id is VIDEO_FRAME_CITY_..., for example 0005_0025_frankfurt_000000_001736; the part before its first
underscore is the video. Source: Kim et al., Video Panoptic Segmentation, CVPR 2020.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vps_ros.datasets.cityscapes import TERMS
from vps_ros.datasets.coco_panoptic import (
    PREDICTED_MAPS,
    PREDICTIONS,
    check_categories,
    classes_by_id,
    frame_names,
    panoptic_videos,
    panoptic_writer,
)
from vps_ros.datasets.labels import VideoDataSet, Videos, existing_folder
from vps_ros.files import list_files
from vps_ros.reading import load_json
from vps_ros.taxonomy import CITYSCAPES

SPLIT = "val"
"""The default split."""


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of the data set.

    Raises:
        InputError: the JSON is absent or broken, or its content is inconsistent; the error names the place.
    """
    root = existing_folder(root)
    split = split or SPLIT
    document = load_json(
        root / f"panoptic_gt_{split}_city_vps.json", "give the folder of Cityscapes-VPS with its panoptic labels"
    )
    check_categories(document, CITYSCAPES)
    images = {i.get("id", str): root / split / "img" / i.get("file_name", str) for i in document.items("images")}
    frames = [a.get("image_id", str) for a in document.items("annotations")]
    folder = root / split / "panoptic_video"
    class_id = classes_by_id(CITYSCAPES)
    return panoptic_videos(
        document, frames, CITYSCAPES, class_id, lambda _, a: folder / a.get("file_name", str), images
    )


def read_predictions(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of a folder of predictions; `split` is ignored.

    Annotations without `image_id`, as the benchmark's own method writes them, belong to the sorted maps in their order.

    Raises:
        InputError: as `read_truth` and `frame_names`.
    """
    root = existing_folder(root)
    document = load_json(root / PREDICTIONS, f"predictions are {PREDICTIONS} and {PREDICTED_MAPS}/<image id>.png")
    check_categories(document, CITYSCAPES)
    maps = root / PREDICTED_MAPS
    frames = frame_names(document, [p.stem for p in list_files(maps, (".png",))])
    return panoptic_videos(
        document, frames, CITYSCAPES, classes_by_id(CITYSCAPES), lambda frame, _: maps / f"{frame}.png"
    )


DATA_SET = VideoDataSet(
    "cityscapes-vps",
    CITYSCAPES,
    read_truth,
    read_predictions,
    partial(panoptic_writer, taxonomy=CITYSCAPES),
    sparse=True,
    protocol="cityscapes-vps",
    terms=TERMS,
)
