"""Optical flow over several frames: from each frame of a gap to the labelled frames at its two ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.flow import Flow
from vps_ros.flow.history import pull

_ABSOLUTE, _RELATIVE = 0.5, 0.01
"""Largest squared difference of a flow and its reverse, px^2, and its share of their squared lengths (Sundaram et al.,
Dense Point Trajectories by GPU-Accelerated Large Displacement Optical Flow, ECCV 2010)."""


@dataclass(frozen=True)
class Path:
    """Where each pixel of a frame is in another frame.

    Attributes:
        flow: float32 [h, w, 2] at the working size, in pixels.
        inside: bool [h, w], whether the path stays in the image.
        trust: float32 [h, w], 1 where all flows on the path agree with their reverse, 0 elsewhere.
    """

    flow: NDArray[np.float32]
    inside: NDArray[np.bool_]
    trust: NDArray[np.float32]

    def warp(self, labels: NDArray[np.integer]) -> NDArray[np.int32]:
        """int32 [H, W]: labels [H, W] of the other frame, seen from this one; -1 where the path leaves the image."""
        height, width = labels.shape
        h, w = self.flow.shape[:2]
        flow = cv2.resize(self.flow, (width, height), interpolation=cv2.INTER_LINEAR)
        inside = cv2.resize(self.inside.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        # cv2.remap has no 32-bit integers; float32 holds every code below 2^24 exactly.
        moved = pull(labels.astype(np.float32), flow * np.float32([width / w, height / h]), -1)
        return np.where(inside > 0, moved, -1).astype(np.int32)

    def trust_at(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """`trust` at the size of the labels, float32 [H, W]."""
        return cv2.resize(self.trust, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def paths(
    flow: Flow, image: Callable[[int], NDArray[np.uint8]], first: int, last: int
) -> tuple[dict[int, Path], dict[int, Path]]:
    """For each frame in first+1..last its path to frame `first`, and for each in first..last-1 that to `last`.

    Args:
        image: frame -> uint8 [H, W, 3] RGB.
    """
    prepared = [flow.prepare(flow.shrink(image(frame))) for frame in range(first, last + 1)]
    older = [flow(b, a) for a, b in zip(prepared, prepared[1:], strict=False)]
    newer = [flow(a, b) for a, b in zip(prepared, prepared[1:], strict=False)]
    to_first, to_last = {}, {}
    before: Path | None = None
    for step, (back, forth) in enumerate(zip(older, newer, strict=True)):
        before = to_first[first + step + 1] = _longer(before, back, forth)
    after: Path | None = None
    for step in reversed(range(len(newer))):
        after = to_last[first + step] = _longer(after, newer[step], older[step])
    return to_first, to_last


def _longer(rest: Path | None, step: NDArray[np.float32], reverse: NDArray[np.float32]) -> Path:
    """The path of one more frame: a `step` to the neighbouring frame, then the `rest` from there."""
    height, width = step.shape[:2]
    place = step + np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    inside = ((place >= -0.5) & (place <= np.float32([width - 0.5, height - 0.5]))).all(-1)
    back = _sample(reverse, place)
    limit = _ABSOLUTE + _RELATIVE * ((step**2).sum(-1) + (back**2).sum(-1))
    trust = (((step + back) ** 2).sum(-1) <= limit).astype(np.float32)
    if rest is None:
        return Path(step, inside, trust)
    inside &= _sample(rest.inside.astype(np.float32), place) > 0.5
    return Path(step + _sample(rest.flow, place), inside, trust * _sample(rest.trust, place))


def _sample(values: NDArray[np.float32], place: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bilinear values at places [h, w, 2]; beyond the edge, those of the edge.

    With another value there, each step of a long path would lose one more column of pixels at the edge.
    """
    return cv2.remap(values, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
