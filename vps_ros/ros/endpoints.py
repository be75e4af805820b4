"""Publishers and subscriptions of serialized messages.

Messages go as CDR that vps_ros.messages makes and reads: rclpy's own classes take longer, and its executor ends at
a message that they cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from vps_ros.errors import InputError
from vps_ros.ros.qos import mismatch

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ModuleNotFoundError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks


def subscribe(node: Node, topic: str, kind: str, qos: QoSProfile, take: Callable[[bytes], None]) -> Subscription:
    """A subscription whose callback gets bytes; parameters `qos_overrides.*` win over `qos`, which is changed.

    Publishers that it does not meet are the caller's to tell of. Raises InputError where an override cannot be.
    """
    made_of = message_class(kind)
    with _overrides_of(node, topic):
        return node.create_subscription(
            made_of,
            topic,
            take,
            qos,
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )


def publisher(node: Node, topic: str, kind: str, qos: QoSProfile) -> Publisher:
    """A publisher of bytes; parameters `qos_overrides.*` win over `qos`, which is changed.

    Raises InputError where an override cannot be.
    """

    def unmet(_: Any) -> None:
        for other in node.get_subscriptions_info_by_topic(topic):
            if said := mismatch(qos, other.qos_profile):
                node.get_logger().warning(f"nothing goes from {topic} to {name_of(other)}: {said}")

    made_of = message_class(kind)
    with _overrides_of(node, topic):
        return node.create_publisher(
            made_of,
            topic,
            qos,
            event_callbacks=PublisherEventCallbacks(incompatible_qos=unmet),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )


def message_class(kind: str) -> type:
    """The class of `package/msg/Type`; raises InputError where its package is not installed."""
    package, _, name = kind.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except ModuleNotFoundError as error:
        raise InputError(f"{kind}: no {error.name} is installed; install {package} (rosdep), and source it") from None


def name_of(endpoint: Any) -> str:
    """The node that a TopicEndpointInfo belongs to."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


@contextmanager
def _overrides_of(node: Node, topic: str) -> Iterator[None]:
    # rclpy tells what is wrong with an override, but not with which, and by exceptions of several kinds.
    try:
        yield
    except (ParameterException, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"qos_overrides.{node.resolve_topic_name(topic)}: {error}") from None
