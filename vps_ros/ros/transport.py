"""The node's transport over rclpy.

Messages pass through rclpy as CDR bytes that vps_ros.messages writes and reads: rclpy's own message classes are slower,
and its executor ends at a message that they cannot read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from time import monotonic
from typing import Any, TypeVar

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame_3d import Transform
from vps_ros.live.transport import Endpoint, QosProfile, Transport, qos_mismatch
from vps_ros.messages.typestore import typestore

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ModuleNotFoundError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
_UNKNOWN = "_NODE_NAME_UNKNOWN_"
"""What rmw_dds_common gives for a node."""


class RosTransport(Transport):
    """Transport of a rclpy node. Parameters `qos_overrides.*` win over the QoS that is asked for.

    Args:
        log_handler: receives what is logged in callbacks.
    """

    def __init__(self, node: Node, log_handler: NodeLogHandler) -> None:
        self._node, self._logged = node, log_handler.of

    @property
    def node_name(self) -> str:
        return self._node.get_fully_qualified_name()[1:]

    def resolve(self, topic: str) -> str:
        return self._node.resolve_topic_name(topic)

    def subscribe(self, topic: str, kind: str, qos: QosProfile, callback: Callable[[bytes], None]) -> RosSubscription:
        """Raises InputError where an override is not valid or the message package is missing."""
        message_class, profile = interface_class(kind), _to_rclpy(qos)
        with self._named_overrides(topic):
            subscription = self._node.create_subscription(
                message_class,
                topic,
                self._logged(callback),
                profile,
                raw=True,
                # CameraSubscription.check reports publishers whose QoS does not match.
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        return RosSubscription(self._node, subscription)

    def advertise(self, topic: str, kind: str, qos: QosProfile) -> RosPublisher:
        """Raises InputError where an override is not valid or the message package is missing."""
        message_class, profile = interface_class(kind), _to_rclpy(qos)

        report_mismatch = MismatchReport(self._node, self.resolve(topic), _from_rclpy(profile), self._logged)
        with self._named_overrides(topic):
            publisher = self._node.create_publisher(
                message_class,
                topic,
                profile,
                event_callbacks=PublisherEventCallbacks(incompatible_qos=self._logged(report_mismatch)),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        return RosPublisher(self._node, publisher, kind)

    def serve(self, name: str, kind: str, handle: Callable[[Any], tuple[bool, str]]) -> None:
        def answer(request: Any, response: Any) -> Any:
            response.success, response.message = handle(request)
            return response

        self._node.create_service(interface_class(kind), name, self._logged(answer))

    def publishers(self, topic: str) -> tuple[Endpoint, ...]:
        name = self.resolve(topic)
        return tuple(
            Endpoint(name, one.topic_type, _from_rclpy(one.qos_profile), _node_of(one))
            for one in self._node.get_publishers_info_by_topic(topic)
        )

    def topics(self) -> dict[str, set[str]]:
        own, found = self._node.get_fully_qualified_name(), {}
        for topic, _ in self._node.get_topic_names_and_types():
            publishers = self._node.get_publishers_info_by_topic(topic)
            if kinds := {one.topic_type for one in publishers if _node_of(one) != own}:
                found[topic] = kinds
        return found

    def transforms(self, frame_id: str) -> TfTransforms:
        """Raises InputError where tf2_ros is missing."""
        return TfTransforms(self._node, frame_id)

    def now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    @contextmanager
    def _named_overrides(self, topic: str) -> Iterator[None]:
        # The exceptions of rclpy, of several kinds, do not name the parameter of a wrong override.
        try:
            yield
        except (ParameterException, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"qos_overrides.{self.resolve(topic)}: {error}") from None


class RosSubscription:
    """transport.Subscription."""

    def __init__(self, node: Node, subscription: Any) -> None:
        self._node, self._subscription = node, subscription
        self.qos = _from_rclpy(subscription.qos_profile)

    @property
    def publishers(self) -> int:
        return self._node.count_publishers(self._subscription.topic_name)

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)


class RosPublisher:
    """transport.Publisher. Once ROS is shut down, which a signal may do at any time, it sends nothing."""

    def __init__(self, node: Node, publisher: Any, kind: str) -> None:
        self._node, self._publisher, self._kind = node, publisher, kind

    @property
    def subscribers(self) -> int:
        with self._unless_shut_down():
            return self._publisher.get_subscription_count()
        return 0

    def send(self, message: Any) -> bool:
        data = bytes(typestore().serialize_cdr(message, self._kind))
        with self._unless_shut_down():
            self._publisher.publish(data)
            return True
        return False

    def close(self) -> None:
        self._node.destroy_publisher(self._publisher)

    @contextmanager
    def _unless_shut_down(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            if self._node.context.ok():
                raise


class MismatchReport:
    """Logs each subscriber of a topic whose quality of service does not match the publisher's; for its event.

    DDS reports a subscriber before the graph of ROS contains it and the name of its node. So the graph is looked at
    until it does, for at most `_PATIENCE` seconds.
    """

    _POLL, _PATIENCE = 0.1, 10.0

    def __init__(self, node: Node, topic: str, offered: QosProfile, logged: Callable[[Callable], Callable]) -> None:
        self._node, self._topic, self._offered, self._logged = node, topic, offered, logged
        self._reported: set[tuple[int, ...]] = set()

    def __call__(self, event: Any) -> None:
        end = monotonic() + self._PATIENCE

        def look() -> None:
            found = self._report()
            if found or monotonic() > end:
                self._node.destroy_timer(timer)
            if not found and monotonic() > end:
                why = event.last_policy_kind
                log.warning("nothing goes from %s to a subscriber: incompatible %s", self._topic, why)

        clock = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self._node.create_timer(self._POLL, self._logged(look), clock=clock)

    def _report(self) -> bool:
        """Logs the subscribers that were not logged before; whether there is one."""
        found = False
        for other in self._node.get_subscriptions_info_by_topic(self._topic):
            reason, gid = qos_mismatch(self._offered, _from_rclpy(other.qos_profile)), tuple(other.endpoint_gid)
            if reason and gid not in self._reported and (name := _node_of(other)):
                log.warning("nothing goes from %s to %s: %s", self._topic, name, reason)
                self._reported.add(gid)
                found = True
        return found


class TfTransforms:
    """transport.Transforms, by tf2_ros. The node's executor must not wait for the caller."""

    _PATIENCE = Duration(seconds=0.1)
    """TF may come later than the image."""
    _KEPT = 10 * 10**9
    """Nanoseconds of transforms that tf2 keeps; it ignores those that are older than the newest one by more."""

    def __init__(self, node: Node, frame_id: str) -> None:
        # Imported on use: a node without objects_frame needs no TF.
        try:
            from tf2_ros import Buffer, TransformException, TransformListener
        except ModuleNotFoundError as error:
            raise InputError(
                f"objects_frame {frame_id}: no module {error.name}; install tf2_ros_py (rosdep) and source it"
            ) from None
        self._frame_id, self._error = frame_id, TransformException
        self._buffer, self._newest = Buffer(), 0
        self._listener = TransformListener(self._buffer, node)

    def __call__(self, source: str, stamp: int) -> Transform:
        if stamp < self._newest - self._KEPT:
            # Time has jumped back. Transforms of /tf_static stay.
            self._buffer.clear()
            self._newest = stamp
        self._newest = max(self._newest, stamp)
        try:
            found = self._buffer.lookup_transform(self._frame_id, source, Time(nanoseconds=stamp), self._PATIENCE)
        except self._error as error:
            raise DroppedFrame(f"no transform from {source!r} to {self._frame_id!r}: {error}") from None
        move, turn = found.transform.translation, found.transform.rotation
        return Transform((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))

    def close(self) -> None:
        self._listener.unregister()


class NodeLogHandler(logging.Handler):
    """Passes records of Python's logging to a rclpy logger, and so to the screen, the log files and /rosout.

    Several nodes in one process pass on what their own callbacks (`of`) log, and the threads that these start.
    """

    _current: ContextVar[NodeLogHandler | None] = ContextVar("node", default=None)

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def of(self, callback: Callable[..., Answer]) -> Callable[..., Answer]:
        """The callback, as one of this node."""

        @wraps(callback)
        def call(*arguments: Any) -> Answer:
            token = self._current.set(self)
            try:
                return callback(*arguments)
            finally:
                self._current.reset(token)

        return call

    def emit(self, record: logging.LogRecord) -> None:
        if self._current.get() not in (None, self):
            return
        text = self.format(record)
        # rclpy allows one severity for each calling line, so that each needs a line of its own.
        if record.levelno >= logging.CRITICAL:
            self._logger.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def interface_class(kind: str) -> Any:
    """The class of `package/msg/Type` or `package/srv/Type`; raises InputError where the package is not installed."""
    package, folder, name = kind.split("/")
    try:
        return getattr(import_module(f"{package}.{folder}"), name)
    except ModuleNotFoundError as error:
        raise InputError(f"{kind}: no module {error.name}; install {package} (rosdep) and source it") from None


def _node_of(endpoint: Any) -> str:
    """Fully qualified name; "" while the graph of ROS does not know the node."""
    return "" if endpoint.node_name == _UNKNOWN else f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def _to_rclpy(qos: QosProfile) -> QoSProfile:
    return QoSProfile(
        depth=qos.depth,
        reliability=ReliabilityPolicy[qos.reliability.upper()],
        durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.latched else DurabilityPolicy.VOLATILE,
    )


def _from_rclpy(profile: Any) -> QosProfile:
    best_effort = profile.reliability == ReliabilityPolicy.BEST_EFFORT
    latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return QosProfile("best_effort" if best_effort else "reliable", profile.depth, latched)
