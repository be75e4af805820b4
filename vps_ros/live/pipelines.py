"""The pipelines of several cameras, which share one model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.errors import DroppedFrame
from vps_ros.frame import Frame, Segmentation
from vps_ros.live.process import keep_memory
from vps_ros.online import OnlinePanoptic

_WARM_UP, _SIZE = 3, (360, 640, 3)


def pipelines(config: Config, count: int) -> tuple[OnlinePanoptic, ...]:
    """One pipeline for each camera, with a tracker of its own; the network is loaded once, unless it is recurrent.

    They are warmed up, so that the first frame takes no longer than others. Freed memory stays in
    the process from then on (`keep_memory`).

    Raises InputError when the model or a parameter cannot be used.
    """
    keep_memory()
    first = OnlinePanoptic(config)
    shared = None if first.segmenter.recurrent else first.segmenter
    # With another tracker, so that no track of the warm-up remains.
    _warm_up(OnlinePanoptic(config, segmenter=first.segmenter))
    first.segmenter.reset()
    return (first, *(OnlinePanoptic(config, segmenter=shared) for _ in range(count - 1)))


def _warm_up(pipeline: OnlinePanoptic) -> None:
    """Runs a grey frame with one artificial object: tables and libraries are loaded at their first use."""
    things = [info.id for info in pipeline.taxonomy.classes if info.isthing][:1]
    image = np.full(_SIZE, 127, np.uint8)
    try:
        found = pipeline.segmenter(image).embeddings
    # The first real frame will report what is wrong with the model.
    except DroppedFrame:
        return
    embeddings = None if found is None else np.ones((len(things), found.shape[1]), np.float32)
    for stamp in range(_WARM_UP):
        pipeline.tracker.step(Frame(image, stamp), _segmentation(things, embeddings))


def _segmentation(things: list[int], embeddings: NDArray[np.float32] | None) -> Segmentation:
    """A segmentation of at most one object, in the middle of the image."""
    height, width, _ = _SIZE
    count, (x, y) = len(things), (width // 4, height // 4)
    painted = np.zeros((height, width), np.uint8)
    painted[y : 3 * y, x : 3 * x] = count
    return Segmentation(
        painted,
        np.array(things, np.int32),
        np.ones(count, np.bool_),
        np.ones(count, np.float32),
        np.full(count, 4 * x * y, np.int64),
        np.array([[x, y, 3 * x, 3 * y]] * count, np.float32).reshape(count, 4),
        embeddings,
    )
