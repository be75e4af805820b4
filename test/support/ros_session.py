"""ROS for one test: the node, and a peer that publishes, subscribes and calls services."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Thread
from threading import enumerate as enumerate_threads

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from support.bags import TYPES, drive
from vps_ros.messages.panoptic import LABEL_INFO, LABEL_INFO_TYPE, OUTPUTS
from vps_ros.messages.typestore import read_message
from vps_ros.ros.transport import interface_class

PATIENCE = 120.0
"""Timeout in seconds; a busy machine is slow."""
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
DOMAIN = 101 + os.getpid() % 100


class RosSession:
    """Nodes in one context, spun by a thread. Leave it with `close`."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.peer = rclpy.create_node("peer", context=self.context)
        self.executor.add_node(self.peer)
        # rmw_fastrtps_cpp refuses two types of one topic in one context, as a camera and the node may begin with.
        self._outside = rclpy.Context()
        rclpy.init(context=self._outside, domain_id=DOMAIN)
        self._cameras = rclpy.create_node("cameras", context=self._outside)
        self._leaving = ExitStack()
        self.nodes: list = []
        self.failure: BaseException | None = None
        self._over = False
        self._thread = Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        try:
            while not self._over:
                self.executor.spin_once(0.1)
        except BaseException as error:
            self.failure = error

    def node(self, *remaps: str, namespace: str = "", **parameters):
        """A VpsNode with these parameters, not yet configured."""
        from vps_ros.ros.node import VpsNode

        arguments = [word for remap in remaps for word in ("-r", remap)]
        node = VpsNode(
            context=self.context,
            namespace=namespace,
            cli_args=["--ros-args", *arguments] if arguments else None,
            parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
        )
        self._leaving.callback(node.close)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def figures(self, camera: int = 0):
        """Those of the first node's worker."""
        return self.nodes[0].live.worker.stats[camera].figures()

    def call(self, kind: type, name: str, **fields):
        """The answer of a service."""
        client = self.peer.create_client(kind, name)
        try:
            assert client.wait_for_service(PATIENCE), f"no service {name}"
            future = client.call_async(kind.Request(**fields))
            wait(future.done, f"an answer of {name}")
            return future.result()
        finally:
            self.peer.destroy_client(client)

    def change(self, what: str, node: str = "/vps") -> bool:
        """Asks for a transition by its label."""
        number = getattr(Transition, f"TRANSITION_{what.upper()}")
        return self.call(ChangeState, f"{node}/change_state", transition=Transition(id=number)).success

    def state(self, node: str = "/vps") -> str:
        # A process that is new here may get a request before it knows where to send the answer.
        client = self.peer.create_client(GetState, f"{node}/get_state")
        asked = []

        def answered() -> bool:
            asked.append(client.call_async(GetState.Request()))
            time.sleep(0.1)
            return any(one.done() for one in asked)

        try:
            assert client.wait_for_service(PATIENCE), f"no node {node}"
            wait(answered, f"the state of {node}")
            return next(one for one in asked if one.done()).result().current_state.label
        finally:
            self.peer.destroy_client(client)

    def run(self, node: str = "/vps") -> None:
        assert self.change("configure", node) and self.change("activate", node)

    def set(self, node: str = "/vps", **values):
        """Sets one parameter; the result."""
        asked = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParameters, f"{node}/set_parameters", parameters=asked).results[0]

    def get(self, name: str, node: str = "/vps"):
        values = self.call(GetParameters, f"{node}/get_parameters", names=[name]).values
        return Parameter.from_parameter_msg(rclpy.parameter.ParameterMsg(name=name, value=values[0])).value

    def describe(self, name: str, node: str = "/vps"):
        return self.call(DescribeParameters, f"{node}/describe_parameters", names=[name]).descriptors[0]

    def camera(self, topic: str, reliability=RELIABLE, kind: str = "sensor_msgs/msg/Image") -> Source:
        return Source(self._cameras, topic, kind, QoSProfile(depth=10, reliability=reliability))

    def listen(self, topic: str, kind: str | None = None, latched: bool = False) -> Received:
        """A subscription to an output; `latched` asks for the message published before."""
        name = topic.rpartition("/")[2]
        kind = kind or {**OUTPUTS, LABEL_INFO: LABEL_INFO_TYPE}[name]
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        return Received(self.peer, topic, kind, QoSProfile(depth=100, reliability=RELIABLE, durability=durability))

    def close(self) -> None:
        self._over = True
        self._thread.join(PATIENCE)
        self.executor.shutdown()
        self._leaving.close()
        for node in (self._cameras, self.peer, *self.nodes):
            node.destroy_node()
        for context in (self._outside, self.context):
            rclpy.shutdown(context=context)
        assert self.failure is None, self.failure


class Source:
    """A camera that publishes messages of rosbags."""

    def __init__(self, node, topic: str, kind: str, qos: QoSProfile) -> None:
        self._publisher = node.create_publisher(interface_class(kind), topic, qos)

    @property
    def listeners(self) -> int:
        return self._publisher.get_subscription_count()

    def matched(self) -> Source:
        """Waits for a subscriber."""
        wait(lambda: self.listeners > 0, "a subscriber")
        return self

    def send(self, message) -> None:
        self.send_bytes(bytes(TYPES.serialize_cdr(message, message.__msgtype__)))

    def send_bytes(self, data: bytes) -> None:
        self._publisher.publish(data)


class Received(list):
    """Messages of a topic, as rosbags has them."""

    def __init__(self, node, topic: str, kind: str, qos: QoSProfile) -> None:
        super().__init__()
        self.topic = topic
        take = lambda data: self.append(read_message(data, kind))  # noqa: E731
        self.subscription = node.create_subscription(interface_class(kind), topic, take, qos, raw=True)
        self._node = node

    def matched(self) -> Received:
        """Waits for a publisher."""
        wait(lambda: self._node.count_publishers(self.topic) > 0, f"a publisher of {self.topic}")
        return self

    def until(self, count: int) -> Received:
        wait(lambda: len(self) >= count, f"{count} messages on {self.topic}; {len(self)} came")
        return self


class Log:
    """Lines that the process has logged so far, by pytest's `capfd`."""

    def __init__(self, capture) -> None:
        self._capture, self._text = capture, ""

    def lines(self) -> list[str]:
        self._text += self._capture.readouterr().err
        return self._text.splitlines()

    def count(self, *words: str) -> int:
        """Lines that have all of the words."""
        return sum(all(word in line for word in words) for line in self.lines())

    def says(self, *words: str, level: str = "WARN") -> None:
        wait(lambda: self.count(f"[{level}]", *words) > 0, f"{words} in the log")


def play(camera: Source, received: Received, messages=None, already: int = 0) -> None:
    """Sends messages one by one, each after the result of the previous one."""
    for count, (_, _, message) in enumerate(messages or drive(4), already + 1):
        camera.send(message)
        received.until(count)


def workers() -> list[Thread]:
    return [thread for thread in enumerate_threads() if thread.name == "vps-worker"]


def wait(until: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, f"no sign of {what} within {PATIENCE:g} s"
        time.sleep(0.01)
