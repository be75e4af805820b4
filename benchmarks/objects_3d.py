"""Error of positions and velocities of `objects_3d` on generated streets with exact depth, by distance and class.

Streets-s and the default tracker process held-out drives. The truth is the visible surface of a true object: the centre
of the box, along the axes of the camera, around its points (percentiles 1 to 99, from the true mask and the exact
depth). A track counts if its mask has IoU 0.5 with a true object. Velocities are in the fixed frame of the world; a
true object moves as the generator moves it, and parked ones stand.

Depth is exact, or that of a simulated stereo camera: 0.3 m between its lenses, a disparity error of 0.25 pixels,
surfaces mixed over 3x3 pixels, 20 % holes, nothing beyond 60 m. Alternatives with the same boxes and depth: mean and
median of the depth in the box of an object, and the depth at its centre. Their velocity is the difference of two
positions. An error is missing where an alternative has no depth.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vps_ros.datasets.streets import HELD_OUT, StreetFrame, drive
from vps_ros.depth.locator import ObjectLocator
from vps_ros.frame import PanopticFrame, Track
from vps_ros.frame_3d import DepthImage, Intrinsics, Transform
from vps_ros.online import OnlinePanoptic
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "error of objects in 3D from depth, on 4 held-out drives"
SCENARIOS, FRAMES, SIZE = ("cruise", "crowd", "occlusion", "turning"), 40, (640, 192)
DISTANCES = ((0, 10), (10, 20), (20, 40), (40, 80))
_BASELINE, _DISPARITY, _HOLES, _FARTHEST = 0.3, 0.25, 0.2, 60.0
_LEAST_PIXELS, _LEAST_IOU, _LEAST_HITS = 40, 0.5, 5
"""Pixels of a true object; IoU with it; frames after which the velocity of a track counts."""
FILTERED, MEASURED = "mask, filtered", "mask, one frame"
METHODS = (FILTERED, MEASURED, "median in box", "mean in box", "centre of box")
_ALTERNATIVES: dict[str, Callable[[NDArray], float]] = {
    "median in box": lambda z: float(np.nanmedian(z)),
    "mean in box": lambda z: float(np.nanmean(z)),
    "centre of box": lambda z: float(z[z.shape[0] // 2, z.shape[1] // 2]),
}


@dataclass(frozen=True)
class Sample:
    """Errors of one track in one frame, by method, in metres and metres per second."""

    class_name: str
    distance: float
    position: dict[str, float]
    velocity: dict[str, float]


def run(progress: Any) -> dict:
    """Median and 90th percentile of the errors, by distance and class, for both kinds of depth."""
    samples: dict[str, list[Sample]] = {"exact": [], "stereo": []}
    pipeline, spent = OnlinePanoptic(), []
    for i, scenario in enumerate(progress(SCENARIOS, "drives", len(SCENARIOS))):
        pipeline.reset()
        kinds = {name: Evaluation(seed=i) for name in samples}
        for street in drive(scenario, HELD_OUT.start + i, FRAMES, SIZE):
            result = pipeline.step(street.frame)
            for name, evaluation in kinds.items():
                depth = simulated_depth(street, name, evaluation.rng)
                begin = time.process_time()
                found, measured = evaluation.locate(street, result, depth)
                spent.append(1e3 * (time.process_time() - begin) / 2)
                samples[name] += evaluation.samples(street, result, found, measured, depth)
    return {
        "drives": [f"{s}-{HELD_OUT.start + i}" for i, s in enumerate(SCENARIOS)],
        "frames": FRAMES * len(SCENARIOS),
        "size": list(SIZE),
        "locate_ms": float(np.median(spent)),
        "depth": {name: _figures(found) for name, found in samples.items()},
    }


class Evaluation:
    """The locators of one drive, and the positions of the alternatives in the previous frame."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._pose = Transform()
        self._filtered = ObjectLocator("world", lambda frame_id, stamp: self._pose)
        self._before: dict[tuple[int, str], tuple[int, NDArray]] = {}

    def locate(self, street: StreetFrame, result: PanopticFrame, depth: DepthImage) -> tuple[Any, Any]:
        """Objects by track id: filtered, and of this frame alone."""
        self._pose = _transform(street.pose)
        found = self._filtered(result, depth).objects_3d
        once = ObjectLocator("world", lambda frame_id, stamp: self._pose)(result, depth).objects_3d
        assert found is not None and once is not None
        return {o.track_id: o for o in found.objects}, {o.track_id: o for o in once.objects}

    def samples(
        self, street: StreetFrame, result: PanopticFrame, found: Any, measured: Any, depth: DepthImage
    ) -> list[Sample]:
        made = []
        for track in result.visible:
            positions = {FILTERED: found, MEASURED: measured}
            at = {name: np.array(of[track.track_id].position) for name, of in positions.items() if track.track_id in of}
            for name, take in _ALTERNATIVES.items():
                at[name] = self._pose.apply(_in_box(track, depth, take))
            velocity = self._velocities(track, at, street.frame.stamp)
            if track.track_id in found:
                velocity[FILTERED] = np.array(found[track.track_id].velocity)
            truth = _truth(street, result.mask(track), track.class_id)
            if truth is None:
                continue
            instance, centre, distance = truth
            moves = _true_velocity(street, instance)
            made.append(
                Sample(
                    CITYSCAPES.class_name(track.class_id),
                    distance,
                    {name: float(np.linalg.norm(p - self._pose.apply(centre))) for name, p in at.items()},
                    {name: float(np.linalg.norm(v - moves)) for name, v in velocity.items()}
                    if track.hits >= _LEAST_HITS
                    else {},
                )
            )
        return made

    def _velocities(self, track: Track, at: dict[str, NDArray], stamp: int) -> dict[str, NDArray]:
        """Differences of the positions of two frames, by method."""
        found = {}
        for name, position in at.items():
            before = self._before.get((track.track_id, name))
            if before is not None:
                found[name] = (position - before[1]) / ((stamp - before[0]) / 1e9)
            self._before[track.track_id, name] = stamp, position
        return found


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people."""
    made = []
    for depth, one in figures["depth"].items():
        for title, first, what, unit in (
            ("median error of the position in m", "distance", "position", "median"),
            ("90th percentile of the error of the position in m", "distance", "position", "p90"),
            ("median error of the position in m", "class", "position", "median"),
            ("median error of the velocity in m/s", "distance", "velocity", "median"),
        ):
            count = "velocities" if what == "velocity" else "samples"
            rows = [
                [name, row[count], *(row[what][m][unit] for m in METHODS)] for name, row in one[f"by_{first}"].items()
            ]
            made.append((f"{depth} depth: {title}, by {first}", [first, "samples", *METHODS], rows))
    made.append(("processor time", ["ms per frame"], [[figures["locate_ms"]]]))
    return made


def simulated_depth(street: StreetFrame, kind: str, rng: np.random.Generator) -> DepthImage:
    metres = np.where(np.isfinite(street.depth), street.depth, np.nan).astype(np.float32)
    height, width = metres.shape
    k = street.camera
    intrinsics = Intrinsics(k[0, 0], k[1, 1], k[0, 2], k[1, 2], width, height)
    if kind == "stereo":
        # A stereo camera averages over its window; the sky is far away.
        mixed = cv2.blur(np.nan_to_num(metres, nan=400.0), (3, 3))
        scale = k[0, 0] * _BASELINE
        metres = scale / np.maximum(scale / mixed + rng.normal(0, _DISPARITY, mixed.shape), 1e-6)
        metres[(rng.random(metres.shape) < _HOLES) | (metres > _FARTHEST)] = np.nan
    return DepthImage(metres.astype(np.float32), street.frame.stamp, intrinsics)


def _in_box(track: Track, depth: DepthImage, take: Callable[[NDArray], float]) -> NDArray:
    """Position of the centre of a box at one depth; NaN where it has no depth."""
    x0, y0, x1, y1 = (int(v) for v in track.box)
    inside = depth.metres[y0:y1, x0:x1]
    z = take(inside) if np.isfinite(inside).any() else np.nan
    return depth.intrinsics.points(np.array((x0 + x1 - 1) / 2), np.array((y0 + y1 - 1) / 2), np.array(z))


def _truth(street: StreetFrame, mask: NDArray[np.bool_], class_id: int) -> tuple[int, NDArray, float] | None:
    """Instance, centre of its visible surface in the frame of the camera and distance; None without a match."""
    ids, counts = np.unique(street.instance[mask & (street.semantic == class_id)], return_counts=True)
    if not ids.size or not (instance := int(ids[counts.argmax()])):
        return None
    true = (street.instance == instance) & (street.semantic == class_id)
    if true.sum() < _LEAST_PIXELS or (true & mask).sum() < _LEAST_IOU * (true | mask).sum():
        return None
    v, u = np.nonzero(true & np.isfinite(street.depth))
    z = street.depth[v, u].astype(np.float64)
    points = np.stack([u, v, np.ones(len(u))], 1) @ np.linalg.inv(street.camera).T * z[:, None]
    return instance, np.percentile(points, [1, 99], axis=0).mean(0), float(np.median(z))


def _true_velocity(street: StreetFrame, instance: int) -> NDArray:
    """[3], m/s in the world; what is no moving object of the scene is parked."""
    scene, i = street._scene, street._index
    for actor in scene.actors:
        if actor.instance == instance:
            first, last = max(i - 1, 0), min(i + 1, len(scene.time) - 1)
            moved = actor.place[last, :2] - actor.place[first, :2]
            return np.array([*moved, 0.0]) / (scene.time[last] - scene.time[first])
    return np.zeros(3)


def _transform(pose: NDArray) -> Transform:
    """Of a matrix [4, 4] from the camera to the world."""
    return Transform(tuple(pose[:3, 3]), tuple(Rotation.from_matrix(pose[:3, :3]).as_quat()))


def _figures(samples: list[Sample]) -> dict:
    near = {f"{a} to {b} m": [s for s in samples if a <= s.distance < b] for a, b in DISTANCES}
    classes: dict[str, list[Sample]] = defaultdict(list)
    for one in samples:
        classes[one.class_name].append(one)
    return {
        "by_distance": {name: _errors(some) for name, some in {**near, "all": samples}.items()},
        "by_class": {name: _errors(some) for name, some in sorted(classes.items())},
    }


def _errors(samples: list[Sample]) -> dict:
    moving = [one for one in samples if one.velocity]
    return {
        "samples": len(samples),
        "velocities": len(moving),
        "position": {m: _percentiles([one.position.get(m, np.nan) for one in samples]) for m in METHODS},
        "velocity": {m: _percentiles([one.velocity.get(m, np.nan) for one in moving]) for m in METHODS},
    }


def _percentiles(values: list[float]) -> dict:
    """Of the values that are known, and how many are not."""
    known = np.array(values)[np.isfinite(values)]
    median, p90 = np.percentile(known, [50, 90]).tolist() if known.size else (None, None)
    return {"median": median, "p90": p90, "missing": len(values) - known.size}
