"""The segment_map of a model with post-processing inside its graph -> Segmentation at camera resolution."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Segmentation
from vps_ros.label_maps import pixel_counts
from vps_ros.segmenters.postprocess import embeddings_of, finite
from vps_ros.segmenters.preprocess import Fit
from vps_ros.segmenters.segmentation import merge_segments
from vps_ros.taxonomy import Taxonomy

_VOID_SLOT = 255
"""Value of segment_map where there is no segment."""


def from_segment_map(
    outputs: Mapping[str, NDArray],
    where: Fit,
    taxonomy: Taxonomy,
    made_for: Fit | None = None,
    tubes: bool = False,
) -> Segmentation:
    """Segmentation of one frame by a model with post-processing inside its graph. Camera pixels take the nearest label.

    Args:
        outputs: segment_map uint8 [1, h, w], a slot for each pixel, 255 void; and for each slot slot_class int32 [1, N]
            (index in the taxonomy, -1 for none), slot_score [1, N] and, optionally, query_embeddings [1, N, D].
        where: position of the camera image in the network's input.
        made_for: the same for the camera images that segment_map shows without padding; None where segment_map covers
            the network's complete input.
        tubes: set the tube of each segment to its slot.

    Raises DroppedFrame when a score or embedding is NaN or infinity, a pixel has a slot without a class, or the image
    does not have the aspect that segment_map is made for.
    """
    slots = _slots_at_camera(outputs["segment_map"][0], where, made_for)
    score, embeddings = finite(outputs, "slot_score")[0], embeddings_of(outputs)
    column = outputs["slot_class"][0].astype(np.int64)
    count = min(len(column), _VOID_SLOT)
    has_class = (column >= 0) & (column < len(taxonomy))
    used = pixel_counts(slots, _VOID_SLOT + 1)[:_VOID_SLOT] > 0
    if used[count:].any() or (used[:count] & ~has_class[:count]).any():
        raise DroppedFrame("segment_map has a slot to which slot_class gives no class; the frame is dropped")
    column = np.where(has_class, column, 0)
    # Labels count from 1, and 0 is void.
    labels = cv2.LUT(slots, np.append(np.arange(1, _VOID_SLOT + 1), 0).astype(np.uint8))
    return merge_segments(
        labels,
        taxonomy.ids[column[:count]],
        taxonomy.isthing[column[:count]],
        score[:count],
        None if embeddings is None else embeddings[:count],
        np.arange(count) if tubes else None,
    )


def _slots_at_camera(segment_map: NDArray[np.uint8], where: Fit, made_for: Fit | None) -> NDArray[np.uint8]:
    """The slot of each camera pixel, uint8 [H, W]."""
    covered = where.input
    if made_for is not None:
        covered = made_for.resized
        if covered != where.resized:
            camera, expected = ("{1}x{0}".format(*fit.camera) for fit in (where, made_for))
            raise DroppedFrame(
                f"the image is {camera}, and the model's segment_map is for {expected}; "
                f"export the model with --camera {camera}"
            )
    if segment_map.shape == where.camera and covered == where.resized:
        return segment_map
    rows, columns = (
        where._replace(input=covered).nearest(axis, size, size) for axis, size in enumerate(segment_map.shape)
    )
    return segment_map.take(rows, axis=0).take(columns, axis=1)
