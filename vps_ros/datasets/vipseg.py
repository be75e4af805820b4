"""VIPSeg, as downloaded and as its own script converts it to COCO's panoptic format.

    ROOT/panomasks/VIDEO/FRAME.png             as downloaded: one channel, see `decode`
    ROOT/imgs/VIDEO/FRAME.jpg                  camera images; `images` in the converted folder
    ROOT/train.txt, val.txt, test.txt          the videos of each split, one in each line
    ROOT/panoptic_gt_VIPSeg_val.json           converted: videos, annotations, categories (without _val: all splits)
    ROOT/panomasksRGB/VIDEO/FRAME.png          its maps
    PREDICTIONS/pred.json                      annotations, as in the converted truth
    PREDICTIONS/pan_pred/VIDEO/FRAME.png       their maps; or, without pred.json, VIDEO/FRAME.png as downloaded

Class ids here are those of the conversion, 0..123; the downloaded files hold them plus one. Source: Miao et al.,
Large-scale Video Panoptic Segmentation in the Wild: A Benchmark, CVPR 2022.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.coco_panoptic import (
    PREDICTED_MAPS,
    PREDICTIONS,
    SegmentTable,
    check_categories,
    classes_by_id,
    load_segments,
    panoptic_writer,
    read_segments,
)
from vps_ros.datasets.folders import folders_of_split, map_writer, png_videos, subfolders
from vps_ros.datasets.images import GREY, GREY16, PALETTE, load_png
from vps_ros.datasets.labels import (
    LabelledFrame,
    LabelMap,
    VideoDataSet,
    Videos,
    check_labels,
    class_table,
    existing_folder,
    listed,
    map_classes,
)
from vps_ros.errors import InputError
from vps_ros.reading import JsonValue, load_json
from vps_ros.taxonomies import VIPSEG
from vps_ros.taxonomy import VOID_ID

DIVISOR = 100
"""A thing is coded as category * 100 + number; numbers start at 0."""
UNNUMBERED = DIVISOR + 1
"""The instance of a thing that is coded as its category without a number: one more object, as in the conversion."""
MASKS = "panomasks"
_EXPECTED = "a VIPSeg map is grey, 8 or 16 bits (0 void, stuff 1..124, thing category * 100 + number)"
_CATEGORIES = len(VIPSEG)
_TABLE = class_table({0: VOID_ID} | {i + 1: i for i in VIPSEG.by_id})


def decode(codes: NDArray[np.integer], where: object = "map") -> LabelMap:
    """Labels of a downloaded map, integer [H, W].

    0 is void; 1..124 is a category; from 125 on it is category * 100 + number. A category is the class id plus one.
    Numbers start at 0, which means a crowd here: instances are the numbers plus one, and `UNNUMBERED` for a thing
    without any. Stuff has instance 0, numbered or not.

    Raises:
        InputError: a code stands for no category.
    """
    codes = codes.astype(np.int32)
    numbered = codes > _CATEGORIES
    category = np.where(numbered, codes // DIVISOR, codes)
    semantic = map_classes(category, _TABLE, where, _EXPECTED, codes)
    instance = np.where(numbered, codes % DIVISOR + 1, UNNUMBERED)
    return LabelMap(semantic, np.where(VIPSEG.thing_table[semantic], instance, 0).astype(np.uint8))


def encode(semantic: NDArray[np.uint8], instance: NDArray[np.integer], where: object = "map") -> NDArray[np.uint16]:
    """The downloaded coding, uint16 [H, W], of labels [H, W]; the inverse of `decode`.

    Raises:
        InputError: a class is unknown, a thing has an instance outside 1..101, or the shapes differ.
    """
    semantic, instance = check_labels(LabelMap(semantic, instance), VIPSEG, where)
    things = VIPSEG.thing_table[semantic]
    wrong = things & ((instance < 1) | (instance > UNNUMBERED))
    if wrong.any():
        value = instance[wrong].flat[0]
        raise InputError(f"{where}: instance {value} cannot be written; VIPSeg's maps hold 1..{DIVISOR} in each class")
    category = np.where(semantic == VOID_ID, 0, semantic.astype(np.int64) + 1)
    numbered = things & (instance < UNNUMBERED)
    return np.where(numbered, category * DIVISOR + instance - 1, category).astype(np.uint16)


def load_map(path: str | Path) -> LabelMap:
    """Labels of one downloaded map; raises InputError as `load_png` and `decode`."""
    return decode(load_png(path, (GREY16, GREY, PALETTE), _EXPECTED), path)


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of a converted folder by its JSON, or of the folder as it was downloaded.

    Without a split, those of all, or of the only one that was converted.

    Raises:
        InputError: the folder is neither, a split is unknown, videos of a split are missing, or the JSON is
            inconsistent; the error names the place.
    """
    root = existing_folder(root)
    document = root / f"panoptic_gt_VIPSeg{f'_{split}' if split else ''}.json"
    converted = sorted(root.glob("panoptic_gt_VIPSeg_*.json"))
    if converted and not split and not document.is_file() and not (root / MASKS).is_dir():
        if len(converted) > 1:
            splits = listed(p.stem.rpartition("_")[2] for p in converted)
            raise InputError(f"{root}: holds the truth of several splits ({splits}); choose one with --split")
        (document,) = converted
    return _read_json(document, root / "panomasksRGB", root) if document.is_file() else _read_masks(root, split)


def read_predictions(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of predictions in either coding; `split` is ignored."""
    root = existing_folder(root)
    if (root / PREDICTIONS).is_file():
        return _read_json(root / PREDICTIONS, root / PREDICTED_MAPS)
    return _read_masks(root, None)


def _encode(labels: LabelMap, where: str) -> NDArray[np.uint16]:
    return encode(*labels, where)


write_masks = partial(map_writer, encode=_encode, folder=MASKS)
"""(folder, force) -> a context that writes maps in the downloaded coding, as ROOT/panomasks/VIDEO/FRAME.png."""
DATA_SET = VideoDataSet(
    "vipseg",
    VIPSEG,
    read_truth,
    read_predictions,
    partial(panoptic_writer, taxonomy=VIPSEG, by_video=True),
    protocol="vipseg",
)


def _read_masks(root: Path, split: str | None) -> Videos:
    folder = root / MASKS if (root / MASKS).is_dir() else root
    folders = folders_of_split(subfolders(folder), root, split, folder)
    images = next((root / name for name in ("imgs", "images") if (root / name).is_dir()), None)
    image = (lambda video, frame: images / video / f"{frame}.jpg") if images else None
    return png_videos(root, folders, load_map, f"VIPSeg maps; expected {MASKS}/VIDEO/FRAME.png", image)


def _read_json(path: Path, maps: Path, root: Path | None = None) -> Videos:
    document = load_json(path, "give the folder of VIPSeg")
    check_categories(document, VIPSEG)
    class_id = classes_by_id(VIPSEG)
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for video in document.items("annotations"):
        name = video.get("video_id", str)
        if name in videos:
            raise video.error(f"is the second one of video {name!r}; keep one")
        frames = videos[name] = {}
        numbers: dict[int, int] = {}
        for annotation in video.items("annotations"):
            # The benchmark's own method names the file only.
            name_of = "image_id" if "image_id" in annotation else "file_name"
            frame = PurePath(annotation.get(name_of, str)).stem
            if frame in frames:
                raise annotation.error(f"is the second one of image {frame!r}; keep one")
            segments = _renumbered(read_segments(annotation, VIPSEG, class_id), annotation, numbers)
            file = maps / name / f"{frame}.png"
            image = root / "images" / name / f"{frame}.jpg" if root else None
            frames[frame] = LabelledFrame(name, frame, file, partial(load_segments, file, segments), image)
    if not any(videos.values()):
        raise document.error("has no annotations")
    return videos


def _renumbered(segments: SegmentTable, annotation: JsonValue, numbers: dict[int, int]) -> SegmentTable:
    """The segments with instances counted from 1 in the order of the JSON, which the STQ of the benchmark uses."""
    for segment in annotation.value["segments_info"]:
        numbers.setdefault(segment["id"], len(numbers) + 1)
    counted = np.array([numbers[i] for i in segments.ids.tolist()], np.uint32)
    return replace(segments, instances=np.where(segments.instances > 0, counted, 0).astype(np.uint32))
