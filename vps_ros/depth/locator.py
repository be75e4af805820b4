"""From a panoptic frame and a depth image to objects in 3D with filtered positions and velocities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vps_ros.depth.measure import Measurement, measure
from vps_ros.depth.velocity import PointFilter
from vps_ros.errors import DroppedFrame
from vps_ros.frame import PanopticFrame, Track
from vps_ros.frame_3d import DepthImage, Object3D, Objects3D, Transform, Vector
from vps_ros.label_maps import nearest

_RATIO = 0.02
"""Largest relative difference of the sides' ratios of two images of the same view."""
_NOISE, _LATERAL, _AXIAL = 0.05, 0.01, 0.02
"""Standard deviation of a measured position: metres plus a share of the distance, across and along the optical axis."""


class ObjectLocator:
    """Adds `objects_3d` to the panoptic frames of one camera; keeps a filter for each track.

    Positions and velocities are relative to the camera unless `frame_id` names another frame: the motion of the camera
    is then part of the velocities.

    Args:
        frame_id: coordinate frame of the results; "": that of the camera.
        transform: returns the transform from a camera frame to `frame_id` at a stamp (ns); raises DroppedFrame.
    """

    def __init__(self, frame_id: str = "", transform: Callable[[str, int], Transform] | None = None) -> None:
        self._frame_id, self._transform = frame_id, transform
        self._filters: dict[int, PointFilter] = {}
        self._sequence_id: int | None = None

    def __call__(self, frame: PanopticFrame, depth: DepthImage) -> PanopticFrame:
        """The frame with `objects_3d`.

        Raises DroppedFrame when the depth image shows another view (the ratio of its sides differs) or has no depth at
        all, or the transform is not known.
        """
        segment_map = resized(frame.map, depth.metres.shape)
        if not np.isfinite(depth.metres).any():
            raise DroppedFrame("the depth image has no pixel with a depth")
        transform = self._transform(frame.frame_id, frame.stamp) if self._transform else Transform()
        if frame.sequence_id != self._sequence_id:
            self._filters, self._sequence_id = {}, frame.sequence_id
        known = {track.track_id for track in frame.tracks}
        self._filters = {track_id: one for track_id, one in self._filters.items() if track_id in known}
        found = []
        for track in frame.visible:
            measured = _measure(track, segment_map, depth, frame.map.shape)
            if measured is not None:
                found.append(self._update(track, measured, transform, frame.stamp / 1e9))
        result = Objects3D(
            tuple(found), self._frame_id or frame.frame_id, depth, transform, len(frame.visible) - len(found)
        )
        return replace(frame, objects_3d=result)

    def _update(self, track: Track, measured: Measurement, transform: Transform, seconds: float) -> Object3D:
        position = transform.apply(np.array(measured.position))
        across, along = _NOISE + _LATERAL * measured.distance, _NOISE + _AXIAL * measured.distance
        rotation = transform.rotation
        covariance = rotation @ np.diag([across**2, across**2, along**2]) @ rotation.T
        state = self._filters.get(track.track_id)
        if state is None:
            state = self._filters[track.track_id] = PointFilter(position, covariance, seconds)
        else:
            state.update(position, covariance, seconds)
        return Object3D(
            track.track_id,
            track.class_id,
            track.score,
            _vector(state.position),
            measured.size,
            _vector(state.velocity),
            _vector(state.deviation),
            measured.distance,
            measured.pixels,
        )


def resized(segment_map: NDArray[np.uint16], shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """The map [H, W] at another size, nearest neighbour; raises DroppedFrame when the ratio of the sides differs."""
    (height, width), (rows, columns) = segment_map.shape, shape
    if (height, width) == (rows, columns):
        return segment_map
    if abs(width * rows / (height * columns) - 1) > _RATIO:
        raise DroppedFrame(
            f"depth image of {columns}x{rows} for a camera image of {width}x{height}: it shows another view; "
            "register it to the camera (depth_image_proc/register)"
        )
    v, u = nearest(np.arange(rows), rows, height), nearest(np.arange(columns), columns, width)
    return segment_map[v[:, None], u]


def _measure(
    track: Track, segment_map: NDArray[np.uint16], depth: DepthImage, camera: tuple[int, ...]
) -> Measurement | None:
    rows, columns = segment_map.shape
    scale = np.array([columns / camera[1], rows / camera[0]] * 2)
    x0, y0, x1, y1 = np.array(track.box) * scale
    left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    right, bottom = min(int(np.ceil(x1)), columns), min(int(np.ceil(y1)), rows)
    mask = segment_map[top:bottom, left:right] == track.segment_id
    k = depth.intrinsics
    inside = replace(k, cx=k.cx - left, cy=k.cy - top)
    return measure(mask, depth.metres[top:bottom, left:right], inside)


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z
