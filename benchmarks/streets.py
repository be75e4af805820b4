"""Speed of rendering streets on one core: Panda3D's software rasteriser compared with polygons painted with OpenCV.

Both render the same triangles of the same frames twice, as an image (at twice the size, then reduced) and as ids. The
painter sorts them by distance (painter's algorithm) and fills each with one colour. It has neither textures nor
transparent parts of leaves, and its ids are wrong where triangles intersect, which `ids_equal` shows.
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._processes import limited_threads
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.datasets.streets.scene import Scene
from vps_ros.datasets.streets.static_scene import label_color

DESCRIPTION = "frames/s of generated streets on one core, Panda3D compared with an OpenCV polygon painter"
SCENARIOS, SEEDS, FRAMES, SIZE = ("cruise", "crowd", "night"), (0, 1), 20, (640, 192)
_NEAR = 0.3


@limited_threads()
def run(progress: Any) -> dict:
    """Milliseconds of processor time (all threads of the process) and frames/s, medians over frames, by scenario."""
    figures: dict[str, Any] = {"size": list(SIZE), "frames": FRAMES * len(SEEDS), "scenarios": {}}
    for name in progress(SCENARIOS, "scenarios", len(SCENARIOS)):
        times: dict[str, list[float]] = {"drive": [], "panda3d": [], "painter": [], "start": []}
        equal = []
        for seed in SEEDS:
            begin = time.process_time()
            frames = drive(name, seed, FRAMES, SIZE)
            last: StreetFrame = next(frames)
            times["start"].append(time.process_time() - begin)
            for i in range(1, FRAMES):
                begin = time.process_time()
                last = next(frames)
                times["drive"].append(time.process_time() - begin)
                if i % 4 == 0:
                    scene = last._scene
                    begin = time.process_time()
                    for layer in ("color", "labels"):
                        scene.renderer.render(layer, scene.poses[i])
                    times["panda3d"].append(time.process_time() - begin)
                    begin = time.process_time()
                    ids = _paint(scene, i)
                    times["painter"].append(time.process_time() - begin)
                    equal.append(float((ids == last.semantic).mean()))
        ms = {key: 1e3 * float(np.median(values)) for key, values in times.items()}
        figures["scenarios"][name] = {
            "drive_fps": 1e3 / ms["drive"],
            "drive_ms": ms["drive"],
            "start_ms": ms["start"],
            "panda3d_ms": ms["panda3d"],
            "panda3d_fps": 1e3 / ms["panda3d"],
            "painter_ms": ms["painter"],
            "painter_fps": 1e3 / ms["painter"],
            "ids_equal": float(np.mean(equal)),
        }
    return figures


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    columns = ["scenario", "drive, frames/s", "start, ms", "Panda3D, frames/s", "painter, frames/s", "same class"]
    keys = ("drive_fps", "start_ms", "panda3d_fps", "painter_fps", "ids_equal")
    return columns, [[name, *(one[k] for k in keys)] for name, one in figures["scenarios"].items()]


def _paint(scene: Scene, i: int) -> NDArray[np.uint8]:
    """The frame by painter's algorithm; returns the classes [H, W]."""
    corners, colors, classes = _triangles(scene, i)
    pose = scene.optical_pose(i)
    seen = (corners - pose[:3, 3]) @ pose[:3, :3]
    shown = (seen[..., 2] > _NEAR).all(1)
    pixels = seen[shown] @ scene.intrinsics.T
    flat = 2 * pixels[..., :2] / pixels[..., 2:]
    width, height = 2 * scene.size[0], 2 * scene.size[1]
    inside = (flat.max(1) >= 0).all(1) & (flat.min(1) < (width, height)).all(1)
    order = np.argsort(-seen[shown][inside][..., 2].mean(1))
    flat, tint, kind = flat[inside][order], colors[shown][inside][order], classes[shown][inside][order]
    points = np.clip(np.round(flat), -30000, 30000).astype(np.int32)
    picture = np.full((height, width, 3), 200, np.uint8)
    ids = np.full((height, width), 10, np.uint8)
    for triangle, color, number in zip(points, tint.tolist(), kind.tolist(), strict=True):
        cv2.fillConvexPoly(picture, triangle, color)
        cv2.fillConvexPoly(ids, triangle, number)
    cv2.resize(picture, scene.size, interpolation=cv2.INTER_AREA)
    return ids[::2, ::2]


def _triangles(scene: Scene, i: int) -> tuple[NDArray, NDArray, NDArray]:
    """Corners [T, 3, 3], colours [T, 3] and classes [T] of everything in frame i."""
    corners, colors, classes = [], [], []
    for mesh, *_ in scene.static.batches:
        first = mesh.faces[:, 0]
        corners.append(mesh.points[mesh.faces])
        colors.append(scene.light.shade(mesh.points[first], mesh.normals[first], mesh.colors[first]))
        classes.append(mesh.classes[first])
    for _, (points, normals, tint, codes, faces, _) in scene.surfaces(i):
        first = faces[:, 0]
        corners.append(points[faces])
        colors.append(scene.light.shade(points[first], normals[first], tint[first]))
        classes.append(codes[first, 0] - label_color(np.zeros(1, np.uint8), 0)[0, 0])
    return np.concatenate(corners).astype(np.float64), np.concatenate(colors), np.concatenate(classes)
