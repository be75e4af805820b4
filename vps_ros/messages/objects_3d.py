"""Depth images and CameraInfo to the types of frame_3d.py; objects in 3D and coloured points to messages."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import PanopticFrame, segment_values
from vps_ros.frame_3d import DepthImage, Intrinsics, Object3D, Objects3D, Transform, Vector
from vps_ros.label_maps import nearest
from vps_ros.messages.images import image_to_array
from vps_ros.messages.typestore import byte_view, make_header, make_message, nanoseconds
from vps_ros.taxonomy import VOID_ID

IMAGE_TYPE, COMPRESSED_TYPE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
ENCODINGS = {"16UC1": (np.uint16, 1e-3), "32FC1": (np.float32, 1.0)}
"""Encoding of a depth image -> type of its pixels, and metres of their unit (REP 118)."""
_HEADER = 12
"""Bytes before the PNG of a compressed depth image: its format, and two numbers for its quantisation."""
_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "class", "track"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<u2", "<u4"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
_FLOAT32, _UINT16, _UINT32 = 7, 4, 6
"""Constants of sensor_msgs/PointField."""
_FIELDS = {"x": _FLOAT32, "y": _FLOAT32, "z": _FLOAT32, "rgb": _FLOAT32, "class": _UINT16, "track": _UINT32}


def intrinsics_of(info: Any) -> Intrinsics:
    """The Intrinsics in a CameraInfo; raises DroppedFrame when the camera is not calibrated."""
    k = np.asarray(info.k, np.float64)
    return Intrinsics(float(k[0]), float(k[4]), float(k[2]), float(k[5]), int(info.width), int(info.height))


def depth_image(message: Any, intrinsics: Intrinsics) -> DepthImage:
    """The DepthImage of an Image, 16UC1 in millimetres or 32FC1 in metres, or of its CompressedImage (compressedDepth).

    0, negative values, NaN and infinity are holes.

    Args:
        intrinsics: of the same view, for any size.

    Raises DroppedFrame when the encoding is another one or the data is damaged.
    """
    stamp = nanoseconds(message.header.stamp)
    if hasattr(message, "format"):
        return to_depth(*_decompressed(message), stamp, intrinsics)
    dtype, unit = _pixels_of(message.encoding)
    return to_depth(image_to_array(message, message.encoding, dtype), unit, stamp, intrinsics)


def _pixels_of(encoding: str) -> tuple[type[np.generic], float]:
    if encoding not in ENCODINGS:
        raise DroppedFrame(f"depth image has encoding {encoding[:40]!r}; {' (mm) or '.join(ENCODINGS)} (m) is expected")
    return ENCODINGS[encoding]


def _decompressed(message: Any) -> tuple[NDArray[Any], float]:
    """Pixels [H, W] and metres of their unit of a CompressedImage of compressed_depth_image_transport.

    A header of 12 bytes is followed by a PNG. Pixels of a 32FC1 image are inverse depth, quantised by two numbers in
    the header.
    """
    encoding, _, how = (part.strip() for part in str(message.format).partition(";"))
    dtype, unit = _pixels_of(encoding)
    if "compressedDepth" not in how or "rvl" in how:
        raise DroppedFrame(f"depth image has format {message.format[:40]!r}; 'compressedDepth' with PNG is expected")
    data = np.frombuffer(bytes(message.data), np.uint8)
    try:
        pixels = cv2.imdecode(data[_HEADER:], cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise DroppedFrame("compressed depth image cannot be decoded")
    if dtype == np.uint16:
        return pixels, unit
    scale, offset = struct.unpack_from("<ff", data, _HEADER - 8)
    known = pixels > 0
    return np.divide(scale, pixels - np.float32(offset), out=np.zeros(pixels.shape, np.float32), where=known), unit


def to_depth(pixels: NDArray[Any], unit: float, stamp: int, intrinsics: Intrinsics) -> DepthImage:
    """The DepthImage of pixels [H, W] in multiples of `unit` metres; 0, negative, NaN and infinite ones are holes."""
    metres = pixels.astype(np.float32) * np.float32(unit)
    metres[~(np.isfinite(metres) & (metres > 0))] = np.nan
    height, width = metres.shape
    return DepthImage(metres, stamp, intrinsics.scaled(width, height))


def objects_3d(frame: PanopticFrame) -> Any:
    """Topic `objects_3d`: vision_msgs/Detection3DArray of the visible objects with depth.

    `id` is the track id, `class_id` the number of the class. Axes of a box are those of the camera, and its orientation
    is the camera's in `frame_id`. The covariance of the pose has the variance of the position.
    """
    found = _objects_of(frame)
    header = make_header(frame.stamp, found.frame_id)
    rows = [_detection(one, found, header) for one in found.objects]
    return make_message("vision_msgs/msg/Detection3DArray", header=header, detections=rows)


def velocities_3d(frame: PanopticFrame) -> Any:
    """Topic `velocities_3d`: vps_ros/ObjectVelocities of the objects of `objects_3d`, in the same order."""
    found = _objects_of(frame)
    return make_message(
        "vps_ros/msg/ObjectVelocities",
        header=make_header(frame.stamp, found.frame_id),
        track_ids=np.array([one.track_id for one in found.objects], np.uint32),
        velocities=[_vector(one.velocity) for one in found.objects],
    )


def panoptic_cloud(frame: PanopticFrame, image: NDArray[np.uint8]) -> Any:
    """Topic `panoptic_cloud`: sensor_msgs/PointCloud2 of all pixels with depth.

    Fields: x y z (float32, metres), rgb (as PCL packs it), class (uint16; 255: none), track (uint32; 0: none).

    Args:
        image: uint8 [H, W, 3], RGB; gives the colours.
    """
    found = _objects_of(frame)
    if found.depth is None:
        raise DroppedFrame(f"no depth image of the frame at {frame.stamp} ns")
    metres = found.depth.metres
    rows, columns = np.nonzero(np.isfinite(metres))
    points = found.depth.intrinsics.points(columns, rows, metres[rows, columns])
    cloud = np.zeros(len(rows), _POINT)
    cloud["x"], cloud["y"], cloud["z"] = found.transform.apply(points).T
    v, u = nearest(rows, metres.shape[0], frame.map.shape[0]), nearest(columns, metres.shape[1], frame.map.shape[1])
    red, green, blue = image[v, u].astype(np.uint32).T
    cloud["rgb"] = red << 16 | green << 8 | blue
    cloud["class"] = segment_values(frame, [s.class_id for s in frame.segments], VOID_ID, np.uint16)[v, u]
    cloud["track"] = frame.track_map[v, u]
    fields = [
        make_message("sensor_msgs/msg/PointField", name=name, offset=_POINT.fields[name][1], datatype=kind, count=1)
        for name, kind in _FIELDS.items()
    ]
    return make_message(
        "sensor_msgs/msg/PointCloud2",
        header=make_header(frame.stamp, found.frame_id),
        height=1,
        width=len(cloud),
        fields=fields,
        is_bigendian=False,
        point_step=_POINT.itemsize,
        row_step=cloud.nbytes,
        data=byte_view(cloud),
        is_dense=True,
    )


def read_objects_3d(detections: Any, velocities: Any | None = None) -> Objects3D:
    """The Objects3D of messages of the topics `objects_3d` and `velocities_3d`, without a depth image.

    The translation of `transform` is not known from these messages and stays 0. Velocities are NaN without a message.
    Raises DroppedFrame when an id is not a number, or the messages name other objects.
    """
    try:
        known = {int(one.id): one for one in detections.detections}
        moves = dict(zip(velocities.track_ids.tolist(), velocities.velocities, strict=True)) if velocities else {}
        objects = tuple(_object(track_id, one, moves.get(track_id)) for track_id, one in known.items())
    except (ValueError, IndexError) as error:
        raise DroppedFrame(f"objects in 3D cannot be read: {error}") from None
    if moves and moves.keys() != known.keys():
        raise DroppedFrame("velocities_3d names other objects than objects_3d")
    turn = next((one.bbox.center.orientation for one in detections.detections), None)
    transform = Transform(quaternion=(turn.x, turn.y, turn.z, turn.w)) if turn else Transform()
    return Objects3D(objects, detections.header.frame_id, None, transform)


def _object(track_id: int, one: Any, velocity: Any | None) -> Object3D:
    place, size, result = one.bbox.center.position, one.bbox.size, one.results[0]
    variance = np.asarray(result.pose.covariance).reshape(6, 6)[range(3), range(3)]
    x, y, z = np.sqrt(variance).tolist()
    return Object3D(
        track_id,
        int(result.hypothesis.class_id),
        float(result.hypothesis.score),
        (place.x, place.y, place.z),
        (size.x, size.y, size.z),
        (velocity.x, velocity.y, velocity.z) if velocity else (np.nan,) * 3,
        (x, y, z),
        np.nan,
        0,
    )


def _objects_of(frame: PanopticFrame) -> Objects3D:
    if frame.objects_3d is None:
        raise DroppedFrame(f"no depth for the frame at {frame.stamp} ns")
    return frame.objects_3d


def _detection(one: Object3D, found: Objects3D, header: Any) -> Any:
    pose = make_pose(one.position, found.transform.quaternion)
    covariance = np.diag([*np.square(one.deviation), 0.0, 0.0, 0.0]).ravel()
    return make_message(
        "vision_msgs/msg/Detection3D",
        header=header,
        results=[make_hypothesis(one.class_id, one.score, pose, covariance)],
        bbox=make_message("vision_msgs/msg/BoundingBox3D", center=pose, size=_vector(one.size)),
        id=str(one.track_id),
    )


def _vector(values: Vector) -> Any:
    x, y, z = values
    return make_message("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def make_pose(position: Vector = (0.0, 0.0, 0.0), quaternion: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)) -> Any:
    """geometry_msgs/Pose; `quaternion` is x y z w."""
    (x, y, z), (qx, qy, qz, qw) = position, quaternion
    return make_message(
        "geometry_msgs/msg/Pose",
        position=make_message("geometry_msgs/msg/Point", x=x, y=y, z=z),
        orientation=make_message("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
    )


def make_hypothesis(class_id: int, score: float, pose: Any, covariance: NDArray[np.float64]) -> Any:
    """vision_msgs/ObjectHypothesisWithPose of a class; `covariance` [36] of the pose."""
    return make_message(
        "vision_msgs/msg/ObjectHypothesisWithPose",
        hypothesis=make_message("vision_msgs/msg/ObjectHypothesis", class_id=str(class_id), score=float(score)),
        pose=make_message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=covariance),
    )
