"""Cityscapes-VPS: 6 of the 30 frames of each video are labelled, in COCO's panoptic style.

    ROOT/panoptic_gt_val_city_vps.json       truth: images, annotations, categories
    ROOT/val/panoptic_video/<file_name>      its maps
    ROOT/val/img/<file_name>                 camera images
    PREDICTIONS/pred.json                    annotations
    PREDICTIONS/pan_pred/<image id>.png      their maps

An image id is VIDEO_FRAME_CITY_..., for example 0005_0025_frankfurt_000000_001736; what stands before its first
underline is the video. Source: Kim et al., Video Panoptic Segmentation, CVPR 2020.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from vps_ros.datasets.coco_panoptic import (
    PREDICTED_MAPS,
    PREDICTIONS,
    PanopticWriter,
    check_categories,
    classes_by_id,
    load_segments,
    panoptic_writer,
    segments_of,
)
from vps_ros.datasets.documents import Document, load_document
from vps_ros.datasets.labels import LabelFormat, LabelledFrame, Videos, existing
from vps_ros.taxonomy import CITYSCAPES

SPLIT = "val"
"""The split that is evaluated where none is named."""


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of the data set.

    Raises:
        InputError: the JSON is absent or broken, or what it says cannot be; the place in it is named.
    """
    root = existing(root)
    split = split or SPLIT
    document = load_document(
        root / f"panoptic_gt_{split}_city_vps.json", "give the folder of Cityscapes-VPS with its panoptic labels"
    )
    check_categories(document, CITYSCAPES)
    photos = {i.get("id", str): root / split / "img" / i.get("file_name", str) for i in document.items("images")}
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for annotation in document.items("annotations"):
        frame = annotation.get("image_id", str)
        path = root / split / "panoptic_video" / annotation.get("file_name", str)
        _add(videos, frame, annotation, path, photos.get(frame))
    if not videos:
        raise document.wrong("has no annotations")
    return videos


def read_predictions(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of a folder of predictions; `split` says nothing here.

    An annotation without `image_id` belongs to the map at its place among the sorted maps, as the benchmark's own
    script, whose predictions are so, joins them by their order.

    Raises:
        InputError: as `read_truth`, or annotations cannot be told apart.
    """
    root = existing(root)
    document = load_document(root / PREDICTIONS, f"predictions are {PREDICTIONS} and {PREDICTED_MAPS}/<image id>.png")
    check_categories(document, CITYSCAPES)
    annotations = document.items("annotations")
    nameless = [a for a in annotations if "image_id" not in a]
    if nameless:
        names = sorted(p.stem for p in (root / PREDICTED_MAPS).glob("*.png"))
        if len(nameless) < len(annotations) or len(names) != len(annotations):
            counts = f"{len(annotations)} annotations cannot be joined to {len(names)} maps"
            raise nameless[0].wrong(f"lacks 'image_id', and {counts}")
    else:
        names = [a.get("image_id", str) for a in annotations]
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for frame, annotation in zip(names, annotations, strict=True):
        _add(videos, frame, annotation, root / PREDICTED_MAPS / f"{frame}.png")
    if not videos:
        raise document.wrong("has no annotations")
    return videos


def write_predictions(root: str | Path, force: bool = False) -> AbstractContextManager[PanopticWriter]:
    """A context that writes predictions; frames are named by their image id."""
    return panoptic_writer(root, force, CITYSCAPES, lambda _, frame: f"{frame}.png")


FORMAT = LabelFormat(
    "cityscapes-vps",
    CITYSCAPES,
    read_truth,
    read_predictions,
    write_predictions,
    sparse=True,
    protocol="cityscapes-vps",
)


def _add(
    videos: dict[str, dict[str, LabelledFrame]],
    frame: str,
    annotation: Document,
    path: Path,
    image: Path | None = None,
) -> None:
    video = frame.split("_")[0]
    frames = videos.setdefault(video, {})
    if frame in frames:
        raise annotation.wrong(f"is the second one of image {frame!r}; keep one")
    segments = segments_of(annotation, CITYSCAPES, classes_by_id(CITYSCAPES))
    frames[frame] = LabelledFrame(video, frame, path, partial(load_segments, path, segments), image)
