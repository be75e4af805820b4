"""From the node's parameters to what its worker works with."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node

from vps_ros.config import Config, LiveConfig, NodeConfig
from vps_ros.frame import Frame
from vps_ros.live.worker import Camera
from vps_ros.messages.frames import frame_of
from vps_ros.messages.typestore import read_message
from vps_ros.online import OnlinePanoptic
from vps_ros.ros.sink import OPTIONAL, TopicSink
from vps_ros.segmenters import load_segmenter

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


class Source:
    """A camera's topic.

    Attributes:
        topic: as the node names it; `resolved`: after remapping.
        kind: type of its messages; compressed where the resolved name ends so, as image_transport has it.
    """

    def __init__(self, node: Node, camera: str) -> None:
        self._clock = node.get_clock()
        self.topic = f"{camera}/image" if camera else "image"
        self.resolved = node.resolve_topic_name(self.topic)
        self.kind = COMPRESSED if self.resolved.endswith("/compressed") else RAW

    def read(self, message: bytes, _: int) -> Frame:
        """Frame of a serialized message; one without a stamp gets the node's time, which may be simulated."""
        return frame_of(read_message(message, self.kind), self.kind, self._clock.now().nanoseconds)


def make_pipelines(config: Config, count: int) -> tuple[OnlinePanoptic, ...]:
    """A pipeline for each of `count` cameras, warm. They share the model unless it keeps state from frame to frame.

    Raises InputError when the model or a parameter cannot be used.
    """
    first = load_segmenter(config)
    rest = [load_segmenter(config) if first.recurrent else first for _ in range(count - 1)]
    spec = first.card.input
    grey = np.full((spec.height, spec.width, 3), 127, np.uint8)
    # The first frame pays for much that is made when it is first used; twice, for what compares two frames.
    warm = OnlinePanoptic(config, first)
    for stamp in (0, 1):
        warm.step(Frame(grey, stamp))
    first.reset()
    return tuple(OnlinePanoptic(config, segmenter) for segmenter in (first, *rest))


def make_cameras(
    node: Node, config: Config, live: LiveConfig, own: NodeConfig
) -> tuple[tuple[Camera, ...], tuple[Source, ...]]:
    """Cameras, with their topics, and where their images come from; raises InputError as above."""
    sources = tuple(Source(node, name) for name in own.cameras)
    pipelines = make_pipelines(config, len(own.cameras))
    optional = tuple(name for name in OPTIONAL if getattr(live, name))
    cameras = tuple(
        Camera(name, pipeline, source.read, TopicSink(node, name, optional))
        for name, pipeline, source in zip(own.cameras, pipelines, sources, strict=True)
    )
    return cameras, sources
