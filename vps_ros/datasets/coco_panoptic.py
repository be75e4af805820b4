"""Panoptic labels in COCO's format: RGB PNG whose pixels are segment ids, and a JSON with the class of each segment.

id = R + 256 G + 65536 B; 0 is void. Cityscapes-VPS, the converted VIPSeg and the panoptic form of VIPER have this
format; an object keeps its id through its video.

Source: Kirillov et al., Panoptic Segmentation, CVPR 2019; Kim et al., Video Panoptic Segmentation, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.images import RGB, load_png, save_png
from vps_ros.datasets.labels import LabelledFrame, LabelMap, Videos, check_labels, listed
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, write_json
from vps_ros.label_maps import areas, boxes, runs
from vps_ros.reading import JsonValue
from vps_ros.taxonomy import VOID_ID, Taxonomy

MAX_SEGMENT = 2**24 - 1
"""The largest id that three bytes hold."""
MAX_INSTANCE = 65535
"""The largest instance that `PanopticWriter` gives an id to."""
PREDICTIONS = "pred.json"
PREDICTED_MAPS = "pan_pred"
"""The file and the folder of predictions of Cityscapes-VPS, VIPSeg and VIPER."""
_EXPECTED = "a panoptic map is 8-bit RGB (segment id = R + 256 G + 65536 B)"

ClassIds = Callable[[JsonValue], int]
"""A segment's entry -> its class id in the taxonomy."""


@dataclass(frozen=True)
class SegmentTable:
    """The segments of one frame, as the JSON lists them.

    Attributes:
        where: the place in the JSON, for errors.
        ids: int64 [K], unique, ascending.
        classes: uint8 [K], ids of the taxonomy.
        instances: uint32 [K]; of a thing its segment id, or 0 where it is a crowd; 0 of stuff.
    """

    where: str
    ids: NDArray[np.int64]
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint32]


def read_segments(annotation: JsonValue, taxonomy: Taxonomy, class_id: ClassIds) -> SegmentTable:
    """The `segments_info` of an annotation; raises InputError that names the place."""
    rows: dict[int, tuple[int, int]] = {}
    for segment in annotation.items("segments_info"):
        number, class_of = segment.get("id", int), class_id(segment)
        if not 0 < number <= MAX_SEGMENT:
            raise segment.error(f"has id {number}; ids are 1..{MAX_SEGMENT}, and 0 is void")
        if number in rows:
            raise segment.error(f"has id {number}, which another segment of the frame has too")
        crowd = "iscrowd" in segment and bool(segment.get("iscrowd", int))
        rows[number] = class_of, number if taxonomy.by_id[class_of].isthing and not crowd else 0
    table = np.array([(n, *rows[n]) for n in sorted(rows)], np.int64).reshape(-1, 3)
    where = f"{annotation.path}: {annotation.place}"
    return SegmentTable(where, table[:, 0], table[:, 1].astype(np.uint8), table[:, 2].astype(np.uint32))


def classes_by_id(taxonomy: Taxonomy) -> ClassIds:
    """`category_id` is the class id."""

    def class_id(segment: JsonValue) -> int:
        number = segment.get("category_id", int)
        if number not in taxonomy.by_id:
            ids = taxonomy.ids
            raise segment.error(f"has category_id {number}, not one of {taxonomy.name} ({ids.min()}..{ids.max()})")
        return number

    return class_id


def check_categories(document: JsonValue, taxonomy: Taxonomy) -> None:
    """Raises InputError when the JSON's categories, if it lists them, are not those of the taxonomy."""
    if "categories" not in document:
        return
    for category in document.items("categories"):
        number = category.get("id", int)
        info = taxonomy.by_id.get(number)
        if info is None:
            raise category.error(f"has id {number}, unknown to {taxonomy.name}; is it another data set's file?")
        if "isthing" in category and bool(category.at("isthing").value) != info.isthing:
            kind = "a thing" if info.isthing else "stuff"
            raise category.error(f"differs from {taxonomy.name}, where {number} ({info.name}) is {kind}")


def frame_names(document: JsonValue, by_order: Sequence[str]) -> list[str]:
    """The frame of each annotation by its `image_id`; without any `image_id`, by its place among the names `by_order`.

    The scripts of the benchmarks join annotations and images by their order.

    Raises InputError when some annotations lack their `image_id`, or there are not as many names as annotations.
    """
    annotations = document.items("annotations")
    nameless = [a for a in annotations if "image_id" not in a or not isinstance(a.value["image_id"], str)]
    if not nameless:
        return [PurePath(a.get("image_id", str)).stem for a in annotations]
    if len(nameless) < len(annotations) or len(by_order) != len(annotations):
        counts = f"{len(annotations)} annotations cannot be joined by order to {len(by_order)} maps"
        raise nameless[0].error(f"lacks 'image_id', and {counts}")
    return list(by_order)


def panoptic_videos(
    document: JsonValue,
    frames: Sequence[str],
    taxonomy: Taxonomy,
    class_id: ClassIds,
    map_of: Callable[[str, JsonValue], Path],
    images: Mapping[str, Path] | None = None,
) -> Videos:
    """Labelled frames of the annotations of a JSON; the video is the part of a frame's name before the first `_`.

    Args:
        frames: the name of each annotation's frame.
        class_id: see `ClassIds`.
        map_of: (frame, annotation) -> the file of its map.
        images: frame -> camera image, where there are any.

    Raises InputError when a frame has two annotations, there is none, or a segment is wrong.
    """
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for frame, annotation in zip(frames, document.items("annotations"), strict=True):
        video = frame.split("_")[0]
        if frame in videos.setdefault(video, {}):
            raise annotation.error(f"is the second one of image {frame!r}; keep one")
        path, segments = map_of(frame, annotation), read_segments(annotation, taxonomy, class_id)
        read = partial(load_segments, path, segments)
        videos[video][frame] = LabelledFrame(video, frame, path, read, images.get(frame) if images else None)
    if not videos:
        raise document.error("has no annotations")
    return videos


def load_segments(path: Path, segments: SegmentTable) -> LabelMap:
    """The labels of one map: uint8 and uint32 [H, W].

    Raises:
        InputError: as `load_png`, or the map shows an id that the JSON lacks, or lacks one that the JSON has.
    """
    ids = decode_ids(load_png(path, (RGB,), _EXPECTED))
    start, length = runs(ids)
    shown = ids.reshape(-1)[start].astype(np.int64)
    place = np.searchsorted(segments.ids, shown)
    known = np.append(segments.ids, 0)[place] == shown
    if not known.all():
        unknown = np.unique(shown[~known & (shown > 0)])
        if len(unknown):
            swapped = np.isin((shown >> 16 | shown & 0xFF00 | (shown & 0xFF) << 16)[shown > 0], segments.ids).all()
            hint = "; red and blue are swapped, write R, G, B" if swapped else ""
            raise InputError(f"{path}: shows segment id {listed(unknown)}, which {segments.where} does not list{hint}")
    absent = np.setdiff1d(segments.ids, shown)
    if len(absent):
        raise InputError(f"{path}: shows no pixel of segment id {listed(absent)}, which {segments.where} lists")
    # Void has the entry after the last segment.
    place = np.where(shown > 0, place, len(segments.ids))
    semantic = np.append(segments.classes, np.uint8(VOID_ID))[place]
    instance = np.append(segments.instances, np.uint32(0))[place]
    return LabelMap(np.repeat(semantic, length).reshape(ids.shape), np.repeat(instance, length).reshape(ids.shape))


def decode_ids(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Segment ids uint32 [H, W] of a map uint8 [H, W, 3] in the order R, G, B."""
    rgba = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2RGBA)
    return rgba.view(np.dtype("<u4"))[..., 0] & MAX_SEGMENT


def encode_ids(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The map uint8 [H, W, 3] of segment ids [H, W] within 0..2^24 - 1; the inverse of `decode_ids`."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)


class PanopticWriter:
    """Writes maps one after the other, and collects the annotations of the JSON.

    Ids are (class + 1) * 65536 + instance for things and (class + 1) * 65536 for stuff, so that an object has the same
    id in all frames.
    """

    def __init__(self, folder: Path, taxonomy: Taxonomy, by_video: bool) -> None:
        self._folder, self._taxonomy, self._by_video = folder, taxonomy, by_video
        self._annotations: dict[str, dict[str, dict]] = {}
        """Video -> frame -> its annotation."""

    def add(self, sequence: str, frame: str, labels: LabelMap) -> None:
        """As `LabelWriter.add`."""
        where = f"{sequence}/{frame}"
        frames = self._annotations.setdefault(sequence, {})
        if frame in frames:
            raise InputError(f"{where}: written twice; give each frame a name of its own")
        semantic, instance = check_labels(labels, self._taxonomy, where)
        instance = np.where(self._taxonomy.thing_table[semantic], instance, 0)
        if instance.size and not 0 <= instance.min() <= instance.max() <= MAX_INSTANCE:
            value = instance.min() if instance.min() < 0 else instance.max()
            raise InputError(f"{where}: instance {value} cannot be written; use 0..{MAX_INSTANCE}, renumber them")
        ids = np.where(semantic == VOID_ID, 0, (semantic.astype(np.uint32) + 1) << 16 | instance.astype(np.uint32))
        folder = self._folder / PREDICTED_MAPS / (sequence if self._by_video else "")
        save_png(folder / f"{frame}.png", encode_ids(ids))
        frames[frame] = {"image_id": frame, "file_name": f"{frame}.png", "segments_info": describe_ids(ids)}

    def save(self) -> None:
        """Writes the JSON."""
        videos = {video: list(frames.values()) for video, frames in self._annotations.items()}
        if self._by_video:
            annotations = [{"video_id": video, "annotations": found} for video, found in videos.items()]
        else:
            annotations = [annotation for found in videos.values() for annotation in found]
        document = {"annotations": annotations, "categories": self._taxonomy.to_json()}
        write_json(self._folder / PREDICTIONS, document)


@contextmanager
def panoptic_writer(
    root: str | Path, force: bool = False, *, taxonomy: Taxonomy, by_video: bool = False
) -> Iterator[PanopticWriter]:
    """A context that writes ROOT/pred.json and ROOT/pan_pred/FRAME.png, all or nothing.

    Args:
        root: see `vps_ros.datasets.labels.VideoDataSet.writer`.
        force: likewise.
        by_video: the maps are ROOT/pan_pred/VIDEO/FRAME.png, and the JSON has a list of annotations for each video.
    """
    with atomic_write(root, force, PREDICTIONS) as draft:
        writer = PanopticWriter(draft, taxonomy, by_video)
        yield writer
        writer.save()


def describe_ids(ids: NDArray[np.integer]) -> list[dict]:
    """The `segments_info` of a map of ids, from its runs along the rows."""
    start, length = runs(ids)
    found, which = np.unique(ids.reshape(-1)[start], return_inverse=True)
    label = which.reshape(-1) + 1
    corners = boxes(label, start, length, max(ids.shape[1], 1), len(found)).astype(np.int64)
    corners[:, 2:] -= corners[:, :2]
    rows = zip(found.tolist(), areas(label, length, len(found)).tolist(), corners.tolist(), strict=True)
    return [
        {"id": number, "category_id": (number >> 16) - 1, "iscrowd": 0, "area": area, "bbox": box}
        for number, area, box in rows
        if number
    ]
