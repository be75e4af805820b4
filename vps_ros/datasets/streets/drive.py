"""Drives through the generated streets, frame by frame, with exact ground truth."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets.scenario import SCENARIOS, TRAINING
from vps_ros.datasets.streets.scene import Scene
from vps_ros.errors import InputError
from vps_ros.frame import Frame

START = 1_700_000_000_000_000_000
"""Stamp of the first frame of every drive, nanoseconds."""
SMALLEST, LARGEST = 32, 4096
GENERATION = 2
"""Counts up when the same arguments give other frames than before; drives that are kept on disk are named by it."""


@dataclass(frozen=True)
class StreetFrame:
    """One frame and its ground truth.

    Attributes:
        frame: RGB image, stamp in nanoseconds, frame_id "camera".
        semantic: uint8 [H, W], Cityscapes train id 0..18.
        instance: uint16 [H, W], 0 for stuff; an object keeps its number for the whole drive, also when it
            leaves and returns.
        camera: float64 [3, 3] intrinsics; pixel (0, 0) has its centre at (0, 0).
        pose: float64 [4, 4], camera (x right, y down, z forward) to world (z up) in metres.
    """

    frame: Frame
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    camera: NDArray[np.float64]
    pose: NDArray[np.float64]
    _scene: Scene = field(repr=False, compare=False)
    _index: int = field(repr=False, compare=False)

    @cached_property
    def _geometry(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._scene.geometry(self._index)

    @property
    def depth(self) -> NDArray[np.float32]:
        """float32 [H, W] metres along the optical axis; inf for sky. Computed when first asked for."""
        return self._geometry[0]

    @property
    def flow(self) -> NDArray[np.float32]:
        """float32 [H, W, 2]: where the surface point seen here was in the previous frame, minus this pixel.

        NaN in the first frame and where the point was behind the camera. Computed when first asked for.
        """
        return self._geometry[1]


def drive(scenario: str, seed: int = 0, frames: int = 100, size: tuple[int, int] = (640, 192)) -> Iterator[StreetFrame]:
    """The frames of one drive; the same arguments give the same bytes.

    Args:
        scenario: a name of SCENARIOS or TRAINING.
        seed: any integer >= 0; every seed is another street.
        frames: how many, >= 0.
        size: (W, H) in pixels.

    Raises:
        InputError: an unknown scenario, or a number out of its range.
    """
    if scenario not in SCENARIOS and scenario not in TRAINING:
        raise InputError(f"scenario {scenario!r} is unknown; choose one of {', '.join((*SCENARIOS, *TRAINING))}")
    if frames < 0:
        raise InputError(f"frames: {frames} is negative; ask for 0 or more")
    if seed < 0:
        raise InputError(f"seed: {seed} is negative; choose 0 or more")
    if not all(SMALLEST <= v <= LARGEST for v in size):
        raise InputError(f"size {size[0]}x{size[1]} is outside {SMALLEST}..{LARGEST} pixels a side")
    return _frames(scenario, seed, frames, (int(size[0]), int(size[1])))


def _frames(name: str, seed: int, frames: int, size: tuple[int, int]) -> Iterator[StreetFrame]:
    if not frames:
        return
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    scene = Scene(rng, (SCENARIOS | TRAINING)[name], max(frames, 2), size)
    for i in range(frames):
        image, semantic, instance = scene.render(i)
        stamp = START + round(float(scene.time[i]) * 1e9)
        yield StreetFrame(
            Frame(image, stamp, "camera"), semantic, instance, scene.intrinsics.copy(), scene.optical_pose(i), scene, i
        )
