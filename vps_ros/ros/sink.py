"""The outputs of one camera as topics of a node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher

from vps_ros.messages.outputs import LABEL_INFO, LABEL_INFO_TYPE, OUTPUTS
from vps_ros.messages.typestore import BagMessages
from vps_ros.ros.endpoints import message_class, publisher
from vps_ros.ros.qos import of_labels, of_outputs

OPTIONAL = ("panoptic_ids",)
"""Outputs that are offered only where a parameter of that name asks for them."""


class TopicSink:
    """Sink (live/sink.py) of a node's topics, `~/tracks` or `~/NAME/tracks`.

    Args:
        camera: its name; "" where there is only one.
        optional: which of OPTIONAL to offer.
    """

    def __init__(self, node: Node, camera: str, optional: tuple[str, ...]) -> None:
        self.messages = BagMessages()
        self._node = node
        self._kinds = {
            **{name: kind for name, kind in OUTPUTS.items() if name not in OPTIONAL or name in optional},
            LABEL_INFO: LABEL_INFO_TYPE,
        }
        # Before the first publisher is there, which would stay.
        for kind in self._kinds.values():
            message_class(kind)
        prefix = f"~/{camera}/" if camera else "~/"
        self._publishers: dict[str, Publisher] = {}
        try:
            for name, kind in self._kinds.items():
                qos = of_labels() if name == LABEL_INFO else of_outputs()
                self._publishers[name] = publisher(node, prefix + name, kind, qos)
        except BaseException:
            self.close()
            raise

    def wants(self, output: str) -> bool:
        with self._while_ros_is_there():
            return output in self._publishers and self._publishers[output].get_subscription_count() > 0
        return False

    def publish(self, output: str, message: Any) -> None:
        data = self.messages.store.serialize_cdr(message, self._kinds[output])
        with self._while_ros_is_there():
            self._publishers[output].publish(bytes(data))

    def close(self) -> None:
        for one in self._publishers.values():
            self._node.destroy_publisher(one)
        self._publishers = {}

    @contextmanager
    def _while_ros_is_there(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            # Once ROS is shut down, which a signal does at any moment, there is nobody to tell.
            if self._node.context.ok():
                raise
