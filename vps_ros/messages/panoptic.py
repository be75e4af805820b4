"""PanopticFrame to the message of each output topic, and back. Independent of the transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import THING_BASE, AssociatedBy, PanopticFrame, Segment, Track, TrackState, segment_values
from vps_ros.messages.images import array_to_compressed, array_to_image, image_to_array
from vps_ros.messages.objects_3d import make_hypothesis, make_pose, objects_3d, panoptic_cloud, velocities_3d
from vps_ros.messages.typestore import make_header, make_message, make_time, nanoseconds
from vps_ros.taxonomy import VOID_ID, Taxonomy

CLASS_DIVISOR = 1_000_000
"""A pixel of panoptic_ids is class * CLASS_DIVISOR + track id."""
VOID_PIXEL = -1
"""A pixel of panoptic_ids without class; 0 would be class 0."""
OUTPUTS = {
    "tracks": "vps_ros/msg/TrackedObjects",
    "segments": "vps_ros/msg/PanopticSegments",
    "detections": "vision_msgs/msg/Detection2DArray",
    "panoptic": "sensor_msgs/msg/Image",
    "panoptic_ids": "sensor_msgs/msg/Image",
    "overlay": "sensor_msgs/msg/Image",
}
"""Output topic -> message type, in the order of publishing: small messages first, so that they arrive first."""
LIVE_OUTPUTS = {
    **OUTPUTS,
    "semantic": "sensor_msgs/msg/Image",
    "overlay/compressed": "sensor_msgs/msg/CompressedImage",
    "panoptic/compressed": "sensor_msgs/msg/CompressedImage",
}
"""OUTPUTS and those that only a live node has; a bag does not need them."""
CAMERA_INFO, CAMERA_INFO_TYPE = "camera_info", "sensor_msgs/msg/CameraInfo"
"""The camera's own message with the header of the frame."""
DEPTH_OUTPUTS = {
    "objects_3d": "vision_msgs/msg/Detection3DArray",
    "velocities_3d": "vps_ros/msg/ObjectVelocities",
    "panoptic_cloud": "sensor_msgs/msg/PointCloud2",
}
"""Output topics of frames with a depth image."""
LABEL_INFO, LABEL_INFO_TYPE = "label_info", "vision_msgs/msg/LabelInfo"
"""Published once: in a bag with the first frame, by a live node when it is activated. Late subscribers get it too."""


def output(
    name: str,
    frame: PanopticFrame,
    taxonomy: Taxonomy,
    draw: Callable[[], NDArray[np.uint8]],
    image: NDArray[np.uint8] | None = None,
) -> Any:
    """The message of one of LIVE_OUTPUTS, DEPTH_OUTPUTS (these need `frame.objects_3d`), or LABEL_INFO.

    Args:
        draw: returns the overlay, uint8 [H, W, 3]; called only for `overlay` and `overlay/compressed`.
        image: of the camera, uint8 [H, W, 3]; only for `panoptic_cloud`.
    """
    if name == "panoptic_cloud":
        assert image is not None
        return panoptic_cloud(frame, image)
    if name == "overlay":
        return overlay(frame, draw())
    if name == "overlay/compressed":
        return array_to_compressed(draw(), "rgb8", _header(frame))
    if name == "panoptic/compressed":
        return array_to_compressed(frame.map, "mono16", _header(frame))
    if name == LABEL_INFO:
        return label_info(frame.stamp, frame.frame_id, taxonomy)
    if name in ("tracks", "segments"):
        return {"tracks": tracks, "segments": segments}[name](frame, taxonomy)
    make = {
        "panoptic": panoptic,
        "panoptic_ids": panoptic_ids,
        "semantic": semantic,
        "detections": detections,
        "objects_3d": objects_3d,
        "velocities_3d": velocities_3d,
    }
    return make[name](frame)


def panoptic(frame: PanopticFrame) -> Any:
    """Topic `panoptic`: Image mono16 of segment ids."""
    return array_to_image(frame.map, "mono16", _header(frame))


def panoptic_ids(frame: PanopticFrame) -> Any:
    """Topic `panoptic_ids`: Image 32SC1, class * 1000000 + track id (0 for stuff); -1 where there is no class.

    The track id counts modulo 1000000.
    """
    values = [s.class_id * CLASS_DIVISOR + s.track_id % CLASS_DIVISOR for s in frame.segments]
    pixels = segment_values(frame, values, VOID_PIXEL, np.int32)
    return array_to_image(pixels, "32SC1", _header(frame))


def semantic(frame: PanopticFrame) -> Any:
    """Topic `semantic`: Image mono8 of class ids, which LabelInfo names; 255 where there is no class.

    Raises InputError for a class id above 254.
    """
    return array_to_image(frame.class_map, "mono8", _header(frame))


def camera_info(frame: PanopticFrame, info: Any) -> Any:
    """Topic `camera_info`: the camera's latest CameraInfo with the stamp and frame_id of the frame."""
    return replace(info, header=_header(frame))


def camera_info_topic(image: str) -> str:
    """The CameraInfo topic of an absolute image topic: `camera_info` in the same namespace, as in image_transport."""
    return f"{image.removesuffix('/compressed').removesuffix('/compressedDepth').rpartition('/')[0]}/{CAMERA_INFO}"


def segments(frame: PanopticFrame, taxonomy: Taxonomy) -> Any:
    """Topic `segments`: PanopticSegments."""
    rows = [
        make_message("vps_ros/msg/PanopticSegment", class_name=taxonomy.by_id[s.class_id].name, **s._asdict())
        for s in frame.segments
    ]
    return make_message("vps_ros/msg/PanopticSegments", header=_header(frame), taxonomy=taxonomy.name, segments=rows)


def tracks(frame: PanopticFrame, taxonomy: Taxonomy) -> Any:
    """Topic `tracks`: TrackedObjects; boxes are rounded to whole pixels and clipped to the image.

    A box outside the image becomes the nearest pixel: a RegionOfInterest of zeros would mean the whole image.
    """
    objects = [_tracked_object(track, frame, taxonomy) for track in frame.tracks]
    return make_message(
        "vps_ros/msg/TrackedObjects",
        header=_header(frame),
        sequence_id=int(frame.sequence_id),
        objects=objects,
    )


def detections(frame: PanopticFrame) -> Any:
    """Topic `detections`: vision_msgs/Detection2DArray of the objects seen in this frame.

    `id` is the track id, `class_id` the number of the class, which LabelInfo names.
    """
    header = _header(frame)
    rows = [_detection(track, header) for track in frame.visible]
    return make_message("vision_msgs/msg/Detection2DArray", header=header, detections=rows)


def label_info(stamp: int, frame_id: str, taxonomy: Taxonomy, threshold: float = 0.0) -> Any:
    """Topic `label_info`: vision_msgs/LabelInfo, class ids and names of the taxonomy."""
    classes = [make_message("vision_msgs/msg/VisionClass", class_id=c.id, class_name=c.name) for c in taxonomy.classes]
    header = make_header(stamp, frame_id)
    return make_message("vision_msgs/msg/LabelInfo", header=header, class_map=classes, threshold=threshold)


def overlay(frame: PanopticFrame, picture: NDArray[np.uint8]) -> Any:
    """Topic `overlay`: Image rgb8 of a picture [H, W, 3] drawn elsewhere."""
    return array_to_image(picture, "rgb8", _header(frame))


def read_panoptic(image: Any, described: Any, tracked: Any = None) -> PanopticFrame:
    """The PanopticFrame of a recorded `panoptic` image, its PanopticSegments and, where given, TrackedObjects.

    Boxes are those of the message (whole pixels). Raises DroppedFrame when the messages are of different frames,
    or the image shows a segment that is not described.
    """
    stamp = nanoseconds(image.header.stamp)
    for other in (described, tracked):
        if other is not None and nanoseconds(other.header.stamp) != stamp:
            raise DroppedFrame(f"image has stamp {stamp} ns, its description {nanoseconds(other.header.stamp)} ns")
    rows = tuple(
        Segment(s.segment_id, s.class_id, bool(s.is_thing), float(s.score), s.area, s.track_id)
        for s in described.segments
    )
    pixels = image_to_array(image, "mono16", np.uint16)
    present = np.flatnonzero(np.bincount(pixels.ravel(), minlength=1))
    if missing := set(present.tolist()) - {0} - {s.segment_id for s in rows}:
        raise DroppedFrame(f"image shows segment {min(missing)} at {stamp} ns, which no description names")
    index = {s.segment_id: i for i, s in enumerate(rows)}
    known = tuple(_track(o, index) for o in tracked.objects) if tracked is not None else ()
    sequence_id = tracked.sequence_id if tracked is not None else 0
    return PanopticFrame(stamp, image.header.frame_id, sequence_id, pixels, rows, known)


def class_and_track_maps(frame: PanopticFrame, void: int = VOID_ID) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """uint16 [H, W] of class ids with `void` where there is none, and uint32 [H, W] of track ids (0: no object)."""
    classes = segment_values(frame, [s.class_id for s in frame.segments], void, np.uint16)
    return classes, frame.track_map


def _header(frame: PanopticFrame) -> Any:
    return make_header(frame.stamp, frame.frame_id)


def _tracked_object(track: Track, frame: PanopticFrame, taxonomy: Taxonomy) -> Any:
    height, width = frame.map.shape
    x0, x1 = _clipped(*track.box[::2], width)
    y0, y1 = _clipped(*track.box[1::2], height)
    roi = make_message(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=x0,
        y_offset=y0,
        height=y1 - y0,
        width=x1 - x0,
        do_rectify=False,
    )
    return make_message(
        "vps_ros/msg/TrackedObject",
        track_id=int(track.track_id),
        segment_id=int(track.segment_id),
        class_id=int(track.class_id),
        class_name=taxonomy.by_id[track.class_id].name,
        score=float(track.score),
        state=int(track.state),
        associated_by=int(track.associated_by),
        association_score=float(track.association_score),
        roi=roi,
        velocity_x=float(track.velocity[0]),
        velocity_y=float(track.velocity[1]),
        area=int(track.area),
        first_seen=make_time(track.first_seen),
        last_seen=make_time(track.last_seen),
        hits=int(track.hits),
    )


def _clipped(low: float, high: float, size: int) -> tuple[int, int]:
    """The interval as whole pixels of 0..size, at least one."""
    first = min(max(round(float(low)), 0), size - 1)
    return first, max(min(round(float(high)), size), first + 1)


def _track(o: Any, index: dict[int, int]) -> Track:
    x, y = float(o.roi.x_offset), float(o.roi.y_offset)
    seen = index.get(o.segment_id, -1) if o.segment_id else -1
    return Track(
        track_id=o.track_id,
        slot=o.segment_id - THING_BASE if seen >= 0 else -1,
        index=seen,
        class_id=o.class_id,
        score=float(o.score),
        state=TrackState(o.state),
        associated_by=AssociatedBy(o.associated_by),
        association_score=float(o.association_score),
        box=(x, y, x + o.roi.width, y + o.roi.height),
        velocity=(float(o.velocity_x), float(o.velocity_y)),
        area=o.area,
        first_seen=nanoseconds(o.first_seen),
        last_seen=nanoseconds(o.last_seen),
        hits=o.hits,
    )


def _detection(track: Track, header: Any) -> Any:
    x0, y0, x1, y1 = (float(v) for v in track.box)
    position = make_message("vision_msgs/msg/Point2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2)
    centre = make_message("vision_msgs/msg/Pose2D", position=position, theta=0.0)
    return make_message(
        "vision_msgs/msg/Detection2D",
        header=header,
        results=[make_hypothesis(track.class_id, track.score, make_pose(), np.zeros(36))],
        bbox=make_message("vision_msgs/msg/BoundingBox2D", center=centre, size_x=x1 - x0, size_y=y1 - y0),
        id=str(track.track_id),
    )
