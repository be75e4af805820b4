"""Networks that people have, imported and merged: one to three overlapping crops of the image, and appearance.

YOLOv8n-seg (640x640) finds the things and a DeepLab of Cityscapes (513x513) the stuff; `vps-ros export --merge` joins
both. `tiles` runs the merged model on overlapping crops, for whose size it was exported.

- Panoptic quality (PQ) is that of three images of Cityscapes (2048x1024), labelled by people, over its 19 classes.
- Identities are those of a KITTI clip (1242x375): boxes around the masks of cars and persons beside the labels that
  are at least 25 pixels high, matched where their IoU is at least 0.5. Labels of other kinds, and DontCare, are
  ignored. Most labels of the clip are lower, so that few count. The best IDF1 is that of a tracker that keeps all
  identities on these masks. A switch: a label is matched with another track than at its previous match.
- Appearance: the average of the network's features of an object (`--embedding`, for three feature maps of the neck), or
  colour histograms, without tiles.

Times are CPU milliseconds per image on one thread: the median.

The networks and images may not be passed on and are no part of the project: VPS_ROS_REALDATA names the folder that
holds models/yolov8n-seg.onnx, models/deeplab_slim_cityscapes.onnx, streets/cityscapes_stills and kitti_tracking_0002.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks._crowd import INTERVAL
from benchmarks._processes import limited_threads
from benchmarks._quality import pq_figures
from benchmarks._real import CLIP, kitti_labels, read_image, real_data
from vps_ros.config import Config
from vps_ros.evaluation import Evaluator, Report
from vps_ros.frame import Frame, Segmentation
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters import SegmenterParameters, load_segmenter
from vps_ros.segmenters.tiles import columns
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, Taxonomy
from vps_ros.trackers.similarity import box_iou

DESCRIPTION = "PQ, time and identities with one to three crops, and embeddings (needs VPS_ROS_REALDATA)"
YOLO, DEEPLAB = "models/yolov8n-seg.onnx", "models/deeplab_slim_cityscapes.onnx"
STILLS = "streets/cityscapes_stills"
TILES = (1, 2, 3)
FEATURES = {"features at stride 8": "x245", "features at stride 16": "x282", "features at stride 32": "x343"}
COLOURS = "colours"
TRACKERS, EVERY = ("hierarchical", "hila_mb", "appearance"), (1, 3)
KINDS = {"Car": "car", "Van": "car", "Truck": "car", "Pedestrian": "person", "Person_sitting": "person"}
KINDS |= {"Cyclist": "person"}
GROUPS = {"car": "car", "truck": "car", "bus": "car", "person": "person", "rider": "person", "bicycle": "person"}
LOWEST, MATCHED, INSIDE = 25, 0.5, 0.5

Box: TypeAlias = NDArray[np.float64]


class Label(NamedTuple):
    """A box of the labels, [x0, y0, x1, y1] in pixels; `track` -1: an area without labels."""

    track: int
    box: Box


class Found(NamedTuple):
    track: int
    box: Box


class Identities(NamedTuple):
    """IDF1 and the best IDF1 that a tracker reaches on the same masks, in 0..1; switches; share of labels found."""

    idf1: float
    best: float
    switches: int
    recall: float


def run(progress: Any) -> dict:
    """Figures by number of crops, and by appearance and tracker; {"skipped": why} without the data."""
    folder, missing = real_data(YOLO, DEEPLAB, STILLS, CLIP)
    if missing:
        return {"skipped": missing}
    labels = read_labels(folder / CLIP)
    images = [read_image(path) for path in sorted((folder / CLIP / "image_02").glob("*.jpg"))]
    frames = [labels.get(number, []) for number in range(len(images))]
    clip = {"frames": len(images), "labels": sum(label.track >= 0 for labels in frames for label in labels)}
    with tempfile.TemporaryDirectory() as temporary:
        models = _Models(folder, Path(temporary))
        tiles = [_tiled(models, folder, images, frames, n, progress) for n in TILES]
        embeddings: list[dict[str, Any]] = []
        for name, node in FEATURES.items():
            segmenter = load_segmenter(SegmenterParameters(model=str(models.things(node)), threads=1))
            segments = [segmenter(image) for image in progress(images, name, len(images))]
            if not embeddings:
                plain = [dataclasses.replace(one, embeddings=None) for one in segments]
                embeddings += _compared(COLOURS, segmenter.taxonomy, images, plain, frames)
            embeddings += _compared(name, segmenter.taxonomy, images, segments, frames)
    return {"clip": clip, "tiles": tiles, "embeddings": embeddings}


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people, in percent and milliseconds."""
    clip = f"{figures['clip']['frames']} frames, {figures['clip']['labels']} labels"
    percent = ("PQ", "PQ things", "PQ stuff", "IDF1", "best IDF1", "found")
    shown = [{k: 100 * v if k in percent else v for k, v in one.items()} for one in figures["tiles"]]
    stills = ("tiles", "crop", "PQ", "PQ things", "PQ stuff", "CPU ms")
    drive = ("tiles", "clip crop", "found", "IDF1", "best IDF1", "switches", "objects", "clip CPU ms")
    kinds = (COLOURS, *FEATURES)
    found = {(one["tracker"], one["every"], one["appearance"]): one for one in figures["embeddings"]}
    rows: list[list[object]] = []
    for every in EVERY:
        for tracker in TRACKERS:
            cells = [found[tracker, every, kind] for kind in kinds]
            frames = "every frame" if every == 1 else f"one of {every}"
            rows.append([tracker, frames, *(f"{100 * one['IDF1']:.1f} / {one['switches']}" for one in cells)])
    return [
        ("images of Cityscapes, 2048x1024", list(stills), [[one[key] for key in stills] for one in shown]),
        (
            f"KITTI clip, 1242x375, {clip}",
            [key.removeprefix("clip ") for key in drive],
            [[one[key] for key in drive] for one in shown],
        ),
        ("appearance: IDF1 / switches on the KITTI clip", ["tracker", "frames", *kinds], rows),
    ]


def read_labels(clip: Path) -> dict[int, list[Label]]:
    """Labels of KITTI tracking by frame."""
    found: dict[int, list[Label]] = {}
    for one in kitti_labels(clip):
        counts = one.kind in KINDS and one.box[3] - one.box[1] >= LOWEST
        found.setdefault(one.frame, []).append(Label(one.track if counts else -1, one.box))
    return found


def identities(labels: Sequence[Sequence[Label]], found: Sequence[Sequence[Found]]) -> Identities:
    """Scores of the boxes that a tracker found in each frame.

    A found box that matches no label is ignored if it is lower than LOWEST or lies inside of an ignored label.
    """
    matched: Counter[tuple[int, int]] = Counter()
    total = boxes = pairs = switches = 0
    last: dict[int, int] = {}
    for truth, seen in zip(labels, found, strict=True):
        true = [one for one in truth if one.track >= 0]
        ignored = [one.box for one in truth if one.track < 0]
        iou = box_iou(_boxes(true)[:, None], _boxes(seen))
        rows, places = linear_sum_assignment(-np.where(iou >= MATCHED, iou, 0))
        best = {int(b): true[a].track for a, b in zip(rows, places, strict=True) if iou[a, b] >= MATCHED}
        kept = [b for b in range(len(seen)) if b in best or _counts(seen[b].box, ignored)]
        total, boxes, pairs = total + len(true), boxes + len(kept), pairs + len(best)
        for b, track in best.items():
            switches += last.get(track, seen[b].track) != seen[b].track
            last[track] = seen[b].track
        matched.update((true[a].track, seen[b].track) for a in range(len(true)) for b in kept if iou[a, b] >= MATCHED)
    tracks, ids = (sorted({pair[i] for pair in matched}) for i in (0, 1))
    table = np.array([[matched[a, b] for b in ids] for a in tracks]).reshape(len(tracks), len(ids))
    same = table[linear_sum_assignment(-table)].sum() if table.size else 0
    both = max(total + boxes, 1)
    return Identities(2 * float(same) / both, 2 * pairs / both, switches, pairs / max(total, 1))


def _boxes(found: Sequence[Label] | Sequence[Found]) -> NDArray[np.float64]:
    return np.array([one.box for one in found]).reshape(-1, 4)


def _counts(box: Box, ignored: Sequence[Box]) -> bool:
    area = max(float((box[2:] - box[:2]).prod()), 1.0)
    return bool(box[3] - box[1] >= LOWEST) and not any(_common(box, other) > INSIDE * area for other in ignored)


def _common(a: Box, b: Box) -> float:
    return float(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod())


class _Models:
    """Imports of both networks, and merges of them, in a temporary folder."""

    def __init__(self, source: Path, folder: Path) -> None:
        from vps_ros.learning.onnx_import.semantic import import_semantic

        self._source, self._folder = source, folder
        import_semantic(source / DEEPLAB, folder / "stuff.onnx", "cityscapes")

    def things(self, embedding: str | None = None) -> Path:
        from vps_ros.learning.onnx_import.instances import import_yolo

        path = self._folder / f"things-{embedding}.onnx"
        if not path.exists():
            import_yolo(self._source / YOLO, path, classes="coco", embedding=embedding)
        return path

    def merged(self, size: tuple[int, int]) -> Path:
        from vps_ros.learning.onnx_import.merge import default_table, merge, open_part

        path = self._folder / "merged-{}x{}.onnx".format(*size)
        things, stuff = open_part(self.things(), "things"), open_part(self._folder / "stuff.onnx", "stuff")
        merge(things, stuff, default_table(things.card.taxonomy, stuff.card.taxonomy), path, size)
        return path


class _Timed:
    """A segmenter, and the CPU time of each of its images."""

    def __init__(self, path: Path, tiles: int) -> None:
        self._segmenter = load_segmenter(SegmenterParameters(model=str(path), threads=1, tiles=tiles))
        self.taxonomy = self._segmenter.taxonomy
        self._spent: list[float] = []

    def __call__(self, image: NDArray[np.uint8]) -> Segmentation:
        began = process_time()
        found = self._segmenter(image)
        self._spent.append(process_time() - began)
        return found

    @property
    def milliseconds(self) -> float:
        return 1e3 * float(np.median(self._spent))


@limited_threads()
def _tiled(
    models: _Models,
    folder: Path,
    images: Sequence[NDArray[np.uint8]],
    labels: Sequence[Sequence[Label]],
    tiles: int,
    progress: Any,
) -> dict[str, Any]:
    """The row of a number of crops."""
    still, drive = (_crop(size, tiles) for size in ((2048, 1024), images[0].shape[1::-1]))
    segmenter = _Timed(models.merged(still), tiles)
    row = {"tiles": tiles, "crop": "{}x{}".format(*still), **pq_figures(_quality(segmenter, folder / STILLS))}
    row["CPU ms"] = segmenter.milliseconds
    segmenter = _Timed(models.merged(drive), tiles)
    segments = [segmenter(image) for image in progress(images, f"{tiles} crops", len(images))]
    found = identities(labels, _tracked("hierarchical", segmenter.taxonomy, images, segments))
    row |= {"clip crop": "{}x{}".format(*drive), "IDF1": found.idf1, "best IDF1": found.best, "found": found.recall}
    objects = float(np.mean([one.is_thing.sum() for one in segments]))
    return row | {"switches": found.switches, "objects": objects, "clip CPU ms": segmenter.milliseconds}


def _crop(size: tuple[int, int], tiles: int) -> tuple[int, int]:
    first = columns(size[0], tiles)[0]
    return first.stop - first.start, size[1]


def _quality(segmenter: _Timed, root: Path) -> Report:
    """Report of the classes of Cityscapes; other classes are void."""
    from vps_ros.datasets.cityscapes import read_truth

    evaluator = Evaluator(CITYSCAPES, video=False)
    names = {c.name: c.id for c in CITYSCAPES.classes}
    for name, frames in read_truth(root).items():
        for frame in frames.values():
            truth = frame.read()
            found = segmenter(read_image(root / "images" / f"{name}.jpg"))
            ids = [names.get(segmenter.taxonomy.class_name(c), VOID_ID) for c in found.class_ids.tolist()]
            table = np.array([VOID_ID, *ids], np.uint8)
            evaluator.update(name, truth.semantic, truth.instance, table[found.map], found.map)
    return evaluator.result()


def _compared(
    name: str,
    taxonomy: Taxonomy,
    images: Sequence[NDArray[np.uint8]],
    segments: Sequence[Segmentation],
    labels: Sequence[Sequence[Label]],
) -> list[dict[str, Any]]:
    rows = []
    for every in EVERY:
        for tracker in TRACKERS:
            tracks = _tracked(tracker, taxonomy, images[::every], segments[::every], every)
            found = identities(labels[::every], tracks)
            row = {"appearance": name, "tracker": tracker, "every": every}
            rows.append(row | {"IDF1": found.idf1, "switches": found.switches})
    return rows


def _tracked(
    tracker: str,
    taxonomy: Taxonomy,
    images: Sequence[NDArray[np.uint8]],
    segments: Sequence[Segmentation],
    every: int = 1,
) -> list[list[Found]]:
    """Boxes and ids of the cars and persons of each frame."""
    given = iter(segments)
    pipeline = OnlinePanoptic(Config(tracker=tracker), segmenter=lambda _: next(given), taxonomy=taxonomy)
    found = []
    for number, image in enumerate(images):
        tracks = pipeline.step(Frame(image, number * every * INTERVAL)).visible
        named = [t for t in tracks if taxonomy.class_name(t.class_id) in GROUPS]
        found.append([Found(t.track_id, np.array(t.box, float)) for t in named])
    return found
