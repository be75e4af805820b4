"""Data types of objects in 3D: a registered depth image, the camera's intrinsics, and the objects of one frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera without distortion: u = fx x / z + cx, v = fy y / z + cy; pixel (0, 0) has its centre at (0, 0).

    Attributes:
        fx, fy, cx, cy: pixels of an image of `width` x `height`.

    Raises DroppedFrame for a focal length or a size that is not positive.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        values = np.array([self.fx, self.fy, self.cx, self.cy])
        if not (np.isfinite(values).all() and min(self.fx, self.fy, self.width, self.height) > 0):
            raise DroppedFrame(
                f"intrinsics fx {self.fx:g}, fy {self.fy:g}, cx {self.cx:g}, cy {self.cy:g} of "
                f"{self.width}x{self.height} are not those of a calibrated camera"
            )

    def scaled(self, width: int, height: int) -> Intrinsics:
        """Those of the same view as an image of another size."""
        if (width, height) == (self.width, self.height):
            return self
        sx, sy = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return Intrinsics(self.fx * sx, self.fy * sy, cx, cy, width, height)

    def points(self, u: NDArray, v: NDArray, z: NDArray) -> NDArray[np.float64]:
        """float64 [..., 3], metres, x right, y down, z forward, of pixels at depth `z` along the optical axis."""
        u, v, z = (np.asarray(a, np.float64) for a in (u, v, z))
        return np.stack(np.broadcast_arrays((u - self.cx) / self.fx * z, (v - self.cy) / self.fy * z, z), -1)


@dataclass(frozen=True)
class DepthImage:
    """Depth that is registered to a camera image: it shows the same view, possibly with another number of pixels.

    Attributes:
        metres: float32 [H, W] along the optical axis; NaN where it is unknown (holes).
        stamp: nanoseconds.
        intrinsics: of this image, H x W.
    """

    metres: NDArray[np.float32]
    stamp: int
    intrinsics: Intrinsics


@dataclass(frozen=True)
class Transform:
    """Rigid motion from the frame of the camera to another coordinate frame.

    Attributes:
        translation: metres.
        quaternion: x y z w of the rotation, of length 1.
    """

    translation: Vector = (0.0, 0.0, 0.0)
    quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    @property
    def rotation(self) -> NDArray[np.float64]:
        """float64 [3, 3]."""
        x, y, z, w = self.quaternion
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    def apply(self, points: NDArray | Vector) -> NDArray[np.float64]:
        """[..., 3] points in the other frame."""
        return np.asarray(points, np.float64) @ self.rotation.T + np.array(self.translation)

    def __matmul__(self, first: Transform) -> Transform:
        """`first`, then this one."""
        (ax, ay, az, aw), (bx, by, bz, bw) = self.quaternion, first.quaternion
        product = (
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        )
        return Transform(_vector(self.apply(first.translation)), product)

    def inverse(self) -> Transform:
        x, y, z, w = self.quaternion
        return Transform(_vector(-np.array(self.translation) @ self.rotation), (-x, -y, -z, w))


def interpolate(before: Transform, after: Transform, share: float) -> Transform:
    """The transform at `share` (0 to 1) of the way: the translation linearly, the rotation along the shortest arc."""
    middle = (1 - share) * np.array(before.translation) + share * np.array(after.translation)
    one, other = np.array(before.quaternion), np.array(after.quaternion)
    cosine = float(one @ other)
    if cosine < 0:
        other, cosine = -other, -cosine
    angle = np.arccos(min(cosine, 1.0))
    # Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985; of a small angle, sin(a x) / sin(x) is a.
    weights = np.sin(np.array([1 - share, share]) * angle) / np.sin(angle) if angle > 1e-6 else (1 - share, share)
    turn = weights[0] * one + weights[1] * other
    x, y, z, w = (turn / np.linalg.norm(turn)).tolist()
    return Transform(_vector(middle), (x, y, z, w))


@dataclass(frozen=True)
class Object3D:
    """A tracked object in 3D.

    Attributes:
        track_id, class_id, score: those of the Track.
        position: centre of the box, metres, in `Objects3D.frame_id`; filtered over time.
        size: of the box along the axes of the camera (right, down, forward), metres. It encloses the visible surface.
        velocity: of the centre in `Objects3D.frame_id`, metres per second.
        deviation: standard deviations of `position` by the filter, metres, along the axes of that frame.
        distance: median depth of the surface along the optical axis, metres; NaN if the object was read from messages.
        pixels: of the depth image that were used; 0 if the object was read from messages.
    """

    track_id: int
    class_id: int
    score: float
    position: Vector
    size: Vector
    velocity: Vector
    deviation: Vector
    distance: float
    pixels: int


@dataclass(frozen=True)
class Objects3D:
    """The objects of one frame in 3D, and the depth from which they come.

    Attributes:
        objects: those of the visible tracks with enough depth, in the order of the tracks.
        frame_id: coordinate frame of positions and velocities.
        depth: the depth image; None if only the objects were recorded.
        transform: from the camera to `frame_id`; its rotation is the orientation of the boxes.
        without_depth: visible tracks that have too few pixels with depth.
    """

    objects: tuple[Object3D, ...]
    frame_id: str
    depth: DepthImage | None = field(default=None, repr=False)
    transform: Transform = Transform()
    without_depth: int = 0

    def seen_by_camera(self) -> Objects3D:
        """The same with positions, and directions of velocities, along the axes of the camera.

        `transform` must be known. Velocities stay relative to `frame_id`; deviations are not turned.
        """
        back = self.transform.inverse()
        turn = Transform(quaternion=back.quaternion)
        objects = tuple(
            replace(one, position=_vector(back.apply(one.position)), velocity=_vector(turn.apply(one.velocity)))
            for one in self.objects
        )
        return replace(self, objects=objects, transform=Transform())


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = values.tolist()
    return x, y, z
