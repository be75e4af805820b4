"""Segments of a model whose post-processing is inside its graph -> Segmentation at camera resolution."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Segmentation
from vps_ros.runs import areas, boxes, runs
from vps_ros.segmenters.preprocess import Fit
from vps_ros.taxonomy import Taxonomy

VOID = 255
"""Value of segment_map where there is no slot."""


def from_slots(
    outputs: Mapping[str, NDArray], where: Fit, taxonomy: Taxonomy, made_for: Fit | None = None
) -> Segmentation:
    """Segmentation of one frame; where segment_map has another size than the camera image, the nearest pixel counts.

    Args:
        outputs: segment_map uint8 [1, h, w], each pixel a slot, 255 void; slot_class int32 [1, N] (place in the
            taxonomy, -1 for none), slot_score [1, N], query_embeddings [1, N, D].
        where: how the camera image lies in the network's input.
        made_for: the same for the images that segment_map is for, of which it shows exactly the picture; None where
            it covers the network's whole input, padding included.

    Raises DroppedFrame when a score or embedding is NaN or infinity, a pixel names a slot without a class, or the
    image does not show what segment_map is made for.
    """
    slots = _at_camera(outputs["segment_map"][0], where, made_for)
    column = outputs["slot_class"][0].astype(np.int64)
    score, embeddings = (np.asarray(outputs[name][0], np.float32) for name in ("slot_score", "query_embeddings"))
    for name, values in (("slot_score", score), ("query_embeddings", embeddings)):
        if not np.isfinite(values).all():
            raise DroppedFrame(f"the network gave NaN or infinity in {name}; the frame is dropped")
    start, length = runs(slots)
    slot = slots.ravel()[start]
    used = np.flatnonzero(np.bincount(slot, minlength=VOID + 1)[:VOID])
    classless = np.append((column < 0) | (column >= len(taxonomy)), np.ones(VOID + 1, bool))
    if classless[used].any():
        raise DroppedFrame("segment_map names a slot to which slot_class gives no class; the frame is dropped")
    used = used[np.argsort(-score[used], kind="stable")]
    source: list[int] = []
    of_stuff: dict[int, int] = {}
    label = np.zeros(VOID + 1, np.uint8)
    for one in used.tolist():
        known = None if taxonomy.isthing[column[one]] else of_stuff.setdefault(int(column[one]), len(source) + 1)
        if known is None or known > len(source):
            source.append(one)
        label[one] = known or len(source)
    of_run = label[slot].astype(np.int64)
    chosen = np.array(source, np.int64)
    return Segmentation(
        cv2.LUT(slots, label),
        taxonomy.ids[column[chosen]],
        taxonomy.isthing[column[chosen]],
        score[chosen],
        areas(of_run, length, len(source)),
        boxes(of_run, start, length, slots.shape[1], len(source)),
        embeddings[chosen],
    )


def _at_camera(small: NDArray[np.uint8], where: Fit, made_for: Fit | None) -> NDArray[np.uint8]:
    """The slots [H, W] of the camera's pixels."""
    covered = where.input
    if made_for is not None:
        covered = made_for.resized
        if covered != where.resized:
            raise DroppedFrame(
                f"the image is {_size(where.camera)}, and the model's segment_map is for {_size(made_for.camera)}; "
                f"export the model with --camera {_size(where.camera)}"
            )
    if small.shape == where.camera and covered == where.resized:
        return small
    over = where._replace(input=covered)
    rows, columns = (
        np.clip(np.floor(over.places(axis, size) + 0.5), 0, size - 1).astype(np.int64)
        for axis, size in enumerate(small.shape)
    )
    return small.take(rows, axis=0).take(columns, axis=1)


def _size(sides: tuple[int, int]) -> str:
    return f"{sides[1]}x{sides[0]}"
