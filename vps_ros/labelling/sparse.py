"""The first step of a project: every frame as an image, and sparse labels whose objects are associated.

Source: VIPSeg (Miao et al., Large-scale Video Panoptic Segmentation in the Wild: A Benchmark, CVPR 2022), section 3.4,
sparse annotation and tracking loop: masks at 1 frame/s get identities by propagation of the masks to the next labelled
frame, mask IoU, and Hungarian matching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.datasets.images import load_image
from vps_ros.datasets.kitti_step import list_maps, load_map
from vps_ros.datasets.labels import LabelMap, check_classes
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, list_files, write_json
from vps_ros.flow.flow import Flow
from vps_ros.frame import Frame
from vps_ros.label_maps import look_up
from vps_ros.labelling.edits import LayerFrame, SegmentRow, UseLayer
from vps_ros.labelling.flows import paths
from vps_ros.labelling.project import (
    FRAMES,
    LOG,
    SETTINGS,
    Frames,
    Progress,
    Project,
    Settings,
    append_log,
    image_path,
    read_json,
    without_progress,
    write_layer,
)
from vps_ros.labelling.segments import SegmentStore, class_map, mask_ious, rows_of, thing_map
from vps_ros.reading import plain
from vps_ros.taxonomy import VOID_ID, Taxonomy
from vps_ros.trackers.assignment import hungarian

LEAST_IOU = 0.2
"""Mask IoU of a propagated and a new mask from which on they may be one object."""
MAX_MISSED = 2
"""Sparse frames after which an object that is not seen is no longer compared."""
_QUALITY = 95


def extract(root: Path, settings: Settings, frames: Iterable[Frame]) -> Frames:
    """Writes the images of a recording and `frames.json`; images that are there are kept.

    Raises InputError when the image size changes, or there is no frame.
    """
    if (root / SETTINGS).is_file():
        refuse_others(root, settings)
    write_json(root / SETTINGS, plain(settings))
    stamps: list[int] = []
    size: tuple[int, int] | None = None
    for number, frame in enumerate(frames):
        mine = frame.image.shape[1], frame.image.shape[0]
        if size not in (None, mine):
            raise InputError(
                f"{settings.recording}: frame {number} is {mine[0]}x{mine[1]}, those before are "
                f"{size[0]}x{size[1]}; label the parts as recordings of their own"  # type: ignore[index]
            )
        size = mine
        path = image_path(root, number)
        if not path.is_file():
            with atomic_write(path) as draft:
                options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
                draft.write_bytes(cv2.imencode(".jpg", frame.image[..., ::-1], options)[1].tobytes())
        stamps.append(frame.stamp)
    if size is None:
        raise InputError(f"{settings.recording}: holds no frame")
    found = Frames(tuple(stamps), sparse_frames(stamps, settings.hz), size)
    write_json(root / FRAMES, plain(found))
    return found


def refuse_others(root: Path, settings: Settings) -> None:
    """Raises InputError when the project was made with other arguments."""
    before: Settings = read_json(Settings, root / SETTINGS)
    if before != settings:
        changed = [n for n in ("recording", "topic", "model", "second", "masks", "hz", "image_hz", "taxonomy_name")
                   if getattr(before, n) != getattr(settings, n)]  # fmt: skip
        name = changed[0] if changed else "classes"
        raise InputError(
            f"{root}: was made with {name} {getattr(before, name)!r}; repeat its arguments to continue, or choose "
            "another folder"
        )


def read_frames(root: Path, settings: Settings) -> Frames:
    """The frames that an earlier run has extracted; raises InputError when its arguments were others."""
    refuse_others(root, settings)
    return read_json(Frames, root / FRAMES)


def sparse_frames(stamps: list[int], hz: float) -> tuple[int, ...]:
    """Numbers of the frames at `hz` per second, and the last one, so that every frame is between two of them."""
    chosen = [0]
    for number, stamp in enumerate(stamps):
        # Half a frame earlier would be nearer than the next one: stamps jitter.
        ahead = stamps[number + 1] - stamp if number + 1 < len(stamps) else 0
        if stamp + ahead / 2 >= stamps[chosen[-1]] + 1e9 / hz and number > chosen[-1]:
            chosen.append(number)
    if chosen[-1] != len(stamps) - 1:
        chosen.append(len(stamps) - 1)
    return tuple(chosen)


def label_sparse(
    root: Path,
    settings: Settings,
    frames: Frames,
    config: Config,
    second: Config | None,
    flow: Flow,
    progress: Progress = without_progress,
) -> Project:
    """Segments and associates the sparse frames; results of an interrupted run are used.

    Args:
        config: of the model; not used with given masks.
        second: of a second model, or None.
        progress: (items, label, total) -> the items.
    """
    taxonomy = settings.taxonomy

    def image(frame: int) -> NDArray[np.uint8]:
        return load_image(image_path(root, frame))

    if settings.masks:
        given = masks_of(settings.masks, frames, taxonomy)
    else:
        store = SegmentStore(root / "segments", config, image, taxonomy)
        other = SegmentStore(root / "segments-second", second, image, taxonomy) if second else None
        given = (segmented(store, other, frame) for frame in frames.sparse)
    associated = associate(progress(given, "segment", len(frames.sparse)), frames.sparse, flow, image)
    name = "0000-sparse"
    if not (root / LOG).is_file():
        write_layer(root, name, "sparse", associated)
        append_log(root, [UseLayer(name)])
    return Project(root)


def segmented(store: SegmentStore, second: SegmentStore | None, frame: int) -> tuple[LabelMap, tuple[SegmentRow, ...]]:
    """The labels of a frame by a model; instances are 1 and up, without identity."""
    found = store(frame)
    things = thing_map(found)
    agreement: list[float | None] = [None] * len(found)
    if second is not None:
        other = second(frame)
        ious = mask_ious(things, thing_map(other), len(found), len(other))
        same = found.class_ids[:, None] == other.class_ids[None]
        agreement = list((ious * same).max(1, initial=0.0))
    rows = tuple(
        SegmentRow(
            i + 1,
            int(found.class_ids[i]),
            int(found.areas[i]),
            tuple(found.boxes[i].tolist()),
            round(float(found.scores[i]), 4),
            None if agreement[i] is None else round(float(agreement[i]), 4),  # type: ignore[arg-type]
        )
        for i in np.flatnonzero(found.is_thing).tolist()
    )
    return LabelMap(class_map(found), things), rows


def masks_of(folder: str, frames: Frames, taxonomy: Taxonomy) -> Iterator[tuple[LabelMap, tuple[SegmentRow, ...]]]:
    """Given masks of the sparse frames: KITTI-STEP maps in a folder, by the number of the frame in their name.

    A folder with one map for each sparse frame is taken in order. Instances are numbered anew.

    Raises InputError when a frame has no map, or a map another size or an unknown class.
    """
    files = list_files(Path(folder), (".png",))
    if not files:
        (maps,) = list(list_maps(folder).values())[:1]
        files = list(maps.values())
    numbers = {int(p.stem): p for p in files if p.stem.isdecimal()}
    if set(frames.sparse) <= numbers.keys():
        files = [numbers[frame] for frame in frames.sparse]
    elif len(files) != len(frames.sparse):
        lacking = [f for f in frames.sparse if f not in numbers]
        raise InputError(
            f"{folder}: has no map of frame {lacking[0]:06d}, and {len(files)} maps for {len(frames.sparse)} sparse "
            f"frames ({', '.join(f'{f:06d}' for f in frames.sparse[:4])}, ...); name maps by frame numbers"
        )
    for path in files:
        semantic, instance = load_map(path)
        if semantic.shape != frames.size[::-1]:
            raise InputError(f"{path}: is {semantic.shape[1]}x{semantic.shape[0]}, the images are "
                             f"{frames.size[0]}x{frames.size[1]}")  # fmt: skip
        check_classes(semantic, taxonomy, path)
        yield numbered(LabelMap(semantic, instance), taxonomy)


def numbered(labels: LabelMap, taxonomy: Taxonomy) -> tuple[LabelMap, tuple[SegmentRow, ...]]:
    """The labels with instances 1, 2, ... of the things, and their rows; crowds become void."""
    thing = taxonomy.thing_table[labels.semantic]
    codes = np.where(thing & (labels.instance > 0), labels.semantic.astype(np.int64) << 16 | labels.instance, 0)
    values, which = np.unique(codes, return_inverse=True)
    first = 0 if values[0] == 0 else 1
    instance = (which.reshape(codes.shape) + first).astype(np.uint16)
    semantic = np.where(thing & (labels.instance == 0), VOID_ID, labels.semantic)
    found = LabelMap(semantic, instance)
    return found, rows_of(found)


def associate(
    labels: Iterable[tuple[LabelMap, tuple[SegmentRow, ...]]],
    frames: tuple[int, ...],
    flow: Flow,
    image: Callable[[int], NDArray[np.uint8]],
) -> Iterator[tuple[int, LabelMap, LayerFrame]]:
    """Identities for the things of the sparse frames: masks are moved by flow through all frames in between.

    Objects that were missed for up to MAX_MISSED sparse frames stay where the flow moves them, and can be found again.

    Args:
        labels: of each of `frames`, with instances 1 and up.
        image: every frame -> uint8 [H, W, 3] RGB.
    """
    known = np.zeros((0, 0), np.int32)
    missed: dict[int, int] = {}
    before, next_id = -1, 1
    for frame, (found, rows) in zip(frames, labels, strict=True):
        ids: dict[int, int] = {}
        if before >= 0 and missed:
            moved = paths(flow, image, before, frame)[0][frame].warp(known)
            ids = _matched(np.maximum(moved, 0), found.instance, [row.id for row in rows])
        else:
            moved = np.zeros(found.semantic.shape, np.int32)
        for row in rows:
            if row.id not in ids:
                ids[row.id], next_id = next_id, next_id + 1
        table = np.zeros(max((row.id for row in rows), default=0) + 1, np.uint16)
        for segment, number in ids.items():
            table[segment] = number
        instance = look_up(found.instance, table)
        seen = set(ids.values())
        missed = {n: 0 if n in seen else missed[n] + 1 for n in {*missed, *seen}}
        missed = {n: count for n, count in missed.items() if count <= MAX_MISSED}
        hidden = np.isin(moved, [n for n in missed if n not in seen])
        known = np.where(instance > 0, instance, np.where(hidden, moved, 0)).astype(np.int32)
        before = frame
        yield (
            frame,
            LabelMap(found.semantic, instance),
            LayerFrame(tuple(row._replace(id=ids[row.id]) for row in rows)),
        )


def _matched(moved: NDArray[np.int32], found: NDArray[np.integer], segments: list[int]) -> dict[int, int]:
    """Segment of the new frame -> id of the moved mask, one to one, by mask IoU."""
    ids = [int(i) for i in np.unique(moved) if i > 0]
    if not ids or not segments:
        return {}
    place = np.zeros(max(ids) + 1, np.int64)
    place[ids] = np.arange(1, len(ids) + 1)
    ious = mask_ious(place[moved], found, len(ids), max(segments))
    rows, columns = np.nonzero(ious > LEAST_IOU)
    chosen = hungarian(rows, columns, ious[rows, columns])
    return {int(columns[i]) + 1: ids[rows[i]] for i in chosen.tolist()}
