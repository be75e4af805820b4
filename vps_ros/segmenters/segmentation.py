"""Segmentations from masks or label maps that another program made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.label_maps import areas, boxes, runs
from vps_ros.taxonomy import Taxonomy

_MAX_SEGMENTS = np.iinfo(np.uint16).max


def segmentation_from_masks(
    masks: ArrayLike,
    class_ids: ArrayLike,
    scores: ArrayLike,
    taxonomy: Taxonomy,
    embeddings: ArrayLike | None = None,
) -> Segmentation:
    """Segments of one frame from masks that may overlap.

    Where masks overlap, things cover stuff and the higher score covers the lower one (Kirillov et al., Panoptic
    Segmentation, CVPR 2019, section 7). Masks of one class of stuff become one segment. A mask of which no pixel is
    left is dropped.

    Args:
        masks: bool [N, H, W].
        class_ids: [N], integers of the taxonomy.
        scores: [N] in 0..1.
        taxonomy: decides which classes are things.
        embeddings: float [N, D], appearance; None: the trackers use colours of the image.

    Raises InputError when shapes, types or values do not fit.
    """
    masks = np.asarray(masks)
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise InputError(
            f"masks are {masks.dtype} {list(masks.shape)}; give bool [N, height, width], such as probabilities > 0.5"
        )
    ids, is_thing, values, vectors = _checked_rows(class_ids, scores, taxonomy, embeddings)
    if len(masks) != len(ids):
        raise InputError(f"{len(masks)} masks, but {len(ids)} class ids; give one for each mask")
    labels = np.zeros(masks.shape[1:], np.uint16)
    # The last one painted is on top: stuff before things, low scores before high ones.
    for row in np.lexsort((values, is_thing)):
        labels[masks[row]] = row + 1
    return merge_segments(labels, ids, is_thing, values, vectors)


def segmentation_from_map(
    labels: ArrayLike,
    class_ids: ArrayLike,
    scores: ArrayLike,
    taxonomy: Taxonomy,
    embeddings: ArrayLike | None = None,
) -> Segmentation:
    """Segments of one frame from a label map: integers [H, W], 0 void, k the segment of row k - 1.

    Segments of one class of stuff become one; a row without a pixel is dropped. The other arguments and errors are
    those of segmentation_from_masks.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 2:
        raise InputError(f"the map is {labels.dtype} {list(labels.shape)}; give integers [height, width]")
    ids, is_thing, values, vectors = _checked_rows(class_ids, scores, taxonomy, embeddings)
    if labels.size and not 0 <= labels.min() <= labels.max() <= len(ids):
        raise InputError(
            f"the map has values {labels.min()} to {labels.max()} for {len(ids)} segments; "
            "use 0 for void and 1 to N for the segments"
        )
    return merge_segments(labels, ids, is_thing, values, vectors)


def _checked_rows(
    class_ids: ArrayLike, scores: ArrayLike, taxonomy: Taxonomy, embeddings: ArrayLike | None
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32] | None]:
    """Class ids, thing or stuff, scores and embeddings of N segments; raises InputError where they do not fit."""
    given = np.asarray(class_ids)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.number) or (given != np.trunc(given)).any():
        raise InputError(f"class ids are {given.dtype} {list(given.shape)}; give integers [N]")
    ids, count = given.astype(np.int32), len(given)
    if count > _MAX_SEGMENTS:
        raise InputError(f"{count} segments; at most {_MAX_SEGMENTS} can be tracked in a frame")
    check_classes(ids, taxonomy)
    values = np.asarray(scores, np.float32)
    if values.shape != (count,) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"scores are {list(values.shape)} for {count} class ids; give [N] in 0..1")
    rows = None if embeddings is None else np.asarray(embeddings, np.float32)
    if rows is not None and (rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all()):
        raise InputError(f"embeddings are {list(rows.shape)} for {count} class ids; give finite numbers [N, D]")
    return ids, np.isin(ids, taxonomy.thing_ids), values, rows


def merge_segments(
    labels: NDArray[Any],
    class_ids: NDArray[np.int32],
    is_thing: NDArray[np.bool_],
    scores: NDArray[np.float32],
    embeddings: NDArray[np.float32] | None,
    tubes: NDArray[np.int64] | None = None,
) -> Segmentation:
    """The Segmentation of a label map: segments in the order of descending score, one for each class of stuff.

    Args:
        labels: integers [H, W], 0 void, k the segment of row k - 1; a row without a pixel is dropped.
        class_ids, is_thing, scores, embeddings, tubes: [N] rows. Merged stuff gets those of its highest score.
    """
    count = len(class_ids)
    start, length = runs(labels)
    row_of_run = labels.ravel()[start].astype(np.int64)
    used = np.flatnonzero(np.bincount(row_of_run, minlength=count + 1)[1:])
    number = np.zeros(count + 1, np.int64)
    kept: list[int] = []
    number_of_stuff: dict[int, int] = {}
    for row in used[np.argsort(-scores[used], kind="stable")].tolist():
        class_id = int(class_ids[row])
        if is_thing[row] or class_id not in number_of_stuff:
            kept.append(row)
            number[row + 1] = len(kept)
            if not is_thing[row]:
                number_of_stuff[class_id] = len(kept)
        else:
            number[row + 1] = number_of_stuff[class_id]
    label = number[row_of_run]
    chosen = np.array(kept, np.int64)
    dtype = np.uint8 if len(kept) <= np.iinfo(np.uint8).max else np.uint16
    return Segmentation(
        np.repeat(label.astype(dtype), length).reshape(labels.shape),
        class_ids[chosen],
        is_thing[chosen],
        scores[chosen],
        areas(label, length, len(kept)),
        boxes(label, start, length, labels.shape[1], len(kept)),
        None if embeddings is None else embeddings[chosen],
        None if tubes is None else tubes[chosen],
    )


def check_classes(class_ids: NDArray[np.int32], taxonomy: Taxonomy) -> None:
    """Raises InputError for a class id that the taxonomy does not have."""
    unknown = class_ids[~np.isin(class_ids, taxonomy.ids)]
    if len(unknown):
        listed = ", ".join(f"{c.id} {c.name}" for c in taxonomy.classes[:5])
        more = ", ..." if len(taxonomy) > 5 else ""
        raise InputError(f"class {unknown[0]} is not in taxonomy {taxonomy.name!r} ({listed}{more})")
