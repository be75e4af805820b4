"""Segmentation of clips by several processes, each of which loads the model."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Segmentation
from vps_ros.segmenters.segmenter import ClipSegmenter, SegmenterParameters

_loaded: ClipSegmenter | None = None
"""The segmenter of a process of the pool."""


class ClipPool:
    """Processes that segment clips; use as a context manager.

    Args:
        parameters: of the segmenter, whose model takes clips.
        jobs: number of processes.
    """

    def __init__(self, parameters: SegmenterParameters, jobs: int) -> None:
        # A forked process would inherit locked mutexes of the threads of a network.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(jobs, context, _load, (parameters,))

    def __enter__(self) -> ClipPool:
        return self

    def __exit__(self, *error: Any) -> None:
        self._pool.shutdown(cancel_futures=True)

    def segment(self, images: Sequence[NDArray[np.uint8]]) -> tuple[list[Segmentation] | DroppedFrame, float]:
        """The segments of each image of a clip, or why there are none, and the milliseconds that they took.

        Threads may call it at the same time, one for each process. Raises InputError when a process was ended from
        outside, as Linux does when memory runs out.
        """
        # Copies of one image are sent once.
        distinct = {id(image): image for image in images}
        numbers = {key: number for number, key in enumerate(distinct)}
        try:
            return self._pool.submit(_segment, list(distinct.values()), [numbers[id(i)] for i in images]).result()
        except BrokenProcessPool:
            raise InputError(
                "jobs: a process that segments clips was ended from outside, or could not load the model; if memory "
                "ran out, use fewer processes"
            ) from None


def _load(parameters: SegmenterParameters) -> None:
    from threadpoolctl import threadpool_limits

    from vps_ros.segmenters import load_segmenter

    global _loaded
    segmenter = load_segmenter(parameters)
    assert isinstance(segmenter, ClipSegmenter)
    _loaded = segmenter
    # As in the pipeline, so that the results are the same.
    threadpool_limits(limits=1, user_api="blas")


def _segment(
    images: Sequence[NDArray[np.uint8]], numbers: Sequence[int]
) -> tuple[list[Segmentation] | DroppedFrame, float]:
    assert _loaded is not None
    found: list[Segmentation] | DroppedFrame
    began = perf_counter()
    try:
        found = _loaded.segment_clip([images[number] for number in numbers])
    except DroppedFrame as reason:
        found = reason
    return found, (perf_counter() - began) * 1e3
