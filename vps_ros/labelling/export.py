"""Labels of a project as a data set: KITTI-STEP, VIPSeg, COCO panoptic, Cityscapes-VPS; or for an annotation tool."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vps_ros.datasets import vipseg
from vps_ros.datasets.class_mapping import normalized_name
from vps_ros.datasets.coco_panoptic import describe_ids, encode_ids
from vps_ros.datasets.images import save_png
from vps_ros.datasets.kitti_step import image_path, map_path, save_map
from vps_ros.datasets.labels import LabelMap, listed
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, write_json
from vps_ros.label_maps import look_up
from vps_ros.labelling.edits import CODE
from vps_ros.labelling.exchange import write_coco, write_cvat_images, write_cvat_video
from vps_ros.labelling.project import Progress, Project, without_progress
from vps_ros.labelling.segments import codes_of
from vps_ros.taxonomies import VIPSEG
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, VOID_ID, Taxonomy

MARKER = "labels.json"
"""File in the output with its origin; a folder with this file may be replaced."""


class Exported(NamedTuple):
    """One labelled frame.

    Attributes:
        frame: its number.
        image: the file of the image.
        labels: with the class ids of the target.
    """

    frame: int
    image: Path
    labels: LabelMap


Writer = Callable[[Path, str, Taxonomy, Iterable[Exported]], None]
"""(folder, name of the sequence, taxonomy, frames) -> writes the data set."""


def export(
    project: Project, output: Path, target: str, force: bool, progress: Progress = without_progress
) -> list[str]:
    """Writes every labelled frame, all or none; returns the names of the classes that the target lacks (void there).

    Args:
        target: one of WRITERS.
        progress: (items, label, total) -> the items.

    Raises InputError when no class of the project is one of the target, or the target cannot hold the labels.
    """
    state = project.state()
    taxonomy, write = WRITERS[target]
    taxonomy = taxonomy or project.taxonomy
    table, lacking = class_table(project.taxonomy, taxonomy)
    frames = sorted(state.layers)
    if target == "cvat-video" and len(frames) < len(project.frames.stamps):
        raise InputError(
            f"{project.root}: {len(project.frames.stamps) - len(frames)} frames have no labels yet, and a video of "
            "CVAT needs all; run `vps-ros label dense` first, or export as cvat"
        )

    def labelled() -> Iterator[Exported]:
        for frame in progress(frames, f"write {target}", len(frames)):
            labels = project.labels(state, frame)
            semantic = look_up(labels.semantic, table)
            instance = np.where(taxonomy.thing_table[semantic], labels.instance, 0).astype(np.uint16)
            yield Exported(frame, project.image_path(frame), LabelMap(semantic, instance))

    with atomic_write(output, force, MARKER) as draft:
        draft.mkdir()
        write(draft, project.name, taxonomy, labelled())
        accepted = sum(track.accepted for track in state.tracks.values())
        origin = {"recording": project.settings.recording, "format": target, "frames": len(frames)}
        write_json(draft / MARKER, {**origin, "tracks": len(state.tracks), "accepted": accepted, "void": lacking})
    return lacking


def class_table(source: Taxonomy, target: Taxonomy) -> tuple[np.ndarray, list[str]]:
    """uint8 [256], the target's class of each class id, and the names of classes that it lacks, which become void.

    Raises InputError when the two have no class in common.
    """
    known = {normalized_name(c.name): c.id for c in target.classes}
    table, lacking = np.full(256, VOID_ID, np.uint8), []
    for c in source.classes:
        if (name := normalized_name(c.name)) in known:
            table[c.id] = known[name]
        else:
            lacking.append(c.name)
    if len(lacking) == len(source):
        raise InputError(
            f"no class of {source.name} ({listed(lacking, 3)}) is one of {target.name}; "
            "export as coco-panoptic, which takes any classes"
        )
    return table, lacking


def _kitti_step(root: Path, name: str, taxonomy: Taxonomy, frames: Iterable[Exported]) -> None:
    for one in frames:
        file = f"{one.frame:06d}"
        _copy(one.image, image_path(root, name, file, ".jpg"))
        save_map(map_path(root, name, file), *one.labels)


def _vipseg(root: Path, name: str, taxonomy: Taxonomy, frames: Iterable[Exported]) -> None:
    numbers: dict[int, int] = {}
    counts: dict[int, int] = {}
    for one in frames:
        instance = np.zeros(one.labels.instance.shape, np.uint16)
        codes = codes_of(one.labels)
        for code in np.unique(codes[one.labels.instance > 0]).tolist():
            class_id = code // CODE
            if code not in numbers:
                numbers[code] = counts[class_id] = counts.get(class_id, 0) + 1
                if counts[class_id] > vipseg.DIVISOR:
                    raise InputError(
                        f"{name}: more than {vipseg.DIVISOR} objects of class {taxonomy.class_name(class_id)}; VIPSeg "
                        "cannot hold them, export parts of the recording"
                    )
            instance[codes == code] = numbers[code]
        file = f"{one.frame:06d}"
        _copy(one.image, root / "imgs" / name / f"{file}.jpg")
        save_png(root / vipseg.MASKS / name / f"{file}.png", vipseg.encode(one.labels.semantic, instance, file))
    (root / "train.txt").write_text(f"{name}\n", encoding="utf-8")


def _coco_panoptic(root: Path, name: str, taxonomy: Taxonomy, frames: Iterable[Exported]) -> None:
    maps = root / "annotations" / "panoptic_train"
    named = ((f"{name}_{one.frame:06d}", one) for one in frames)
    write_panoptic(named, taxonomy, root / "train", maps, maps.with_suffix(".json"), count=True)


def _cityscapes_vps(root: Path, name: str, taxonomy: Taxonomy, frames: Iterable[Exported]) -> None:
    # The part of a name before the first underscore is the video; every frame is labelled.
    video, folder = name.replace("_", "-"), root / "val"
    named = ((f"{video}_{one.frame:04d}_{video}_000000_{one.frame:06d}", one) for one in frames)
    document = root / "panoptic_gt_val_city_vps.json"
    write_panoptic(named, taxonomy, folder / "img", folder / "panoptic_video", document)


def write_panoptic(
    frames: Iterable[tuple[str, Exported]],
    taxonomy: Taxonomy,
    images: Path,
    maps: Path,
    document: Path,
    count: bool = False,
) -> None:
    """Images, maps and JSON of COCO's panoptic format; a segment has the same id in all frames, and its `track_id`.

    Args:
        frames: name of the files, and the frame.
        images, maps: folders.
        count: `image_id` is the number of the frame; otherwise its name.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for file, one in frames:
        labels = one.labels
        _copy(one.image, images / f"{file}.jpg")
        known = labels.semantic != VOID_ID
        ids = np.where(known, (labels.semantic.astype(np.uint32) + 1) << 16 | labels.instance, 0)
        save_png(maps / f"{file}.png", encode_ids(ids))
        segments = [{**s, "track_id": s["id"] & 0xFFFF} for s in describe_ids(ids)]
        number: int | str = one.frame if count else file
        height, width = ids.shape
        entries.append({"id": number, "file_name": f"{file}.jpg", "width": width, "height": height})
        annotations.append({"image_id": number, "file_name": f"{file}.png", "segments_info": segments})
    categories = [{**category, "isthing": int(category["isthing"])} for category in taxonomy.to_json()]
    write_json(document, {"images": entries, "annotations": annotations, "categories": categories})


def _exchange(write: Callable[..., None]) -> Writer:
    """A writer of masks for an annotation tool; the tool's task is made of images/FRAME.jpg."""

    def written(root: Path, name: str, taxonomy: Taxonomy, frames: Iterable[Exported]) -> None:
        def copied() -> Iterator[tuple[int, LabelMap]]:
            for one in frames:
                _copy(one.image, root / "images" / one.image.name)
                yield one.frame, one.labels

        write(root, taxonomy, copied())

    return written


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


WRITERS: dict[str, tuple[Taxonomy | None, Writer]] = {
    "kitti-step": (KITTI_STEP, _kitti_step),
    "vipseg": (VIPSEG, _vipseg),
    "coco-panoptic": (None, _coco_panoptic),
    "cityscapes-vps": (CITYSCAPES, _cityscapes_vps),
    "cvat": (None, _exchange(write_cvat_images)),
    "cvat-video": (None, _exchange(write_cvat_video)),
    "coco": (None, _exchange(write_coco)),
}
"""Format -> its taxonomy (None: that of the project), and what writes it."""
