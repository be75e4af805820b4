"""A node's topics for Foxglove: a WebSocket server beside another transport, so that no ROS bridge is needed.

The only module that imports the package foxglove-sdk (extra `foxglove`), when the server starts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from vps_ros.errors import InputError
from vps_ros.live.transport import Endpoint, Publisher, QosProfile, Subscription, Transforms, Transport
from vps_ros.messages.typestore import typestore

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:8765"
_BACKLOG = 32
"""Messages that wait for a client at most; the oldest is dropped then."""


class FoxgloveTransport(Transport):
    """A transport that also sends to Foxglove: what the node publishes, and the messages to which it subscribes.

    Messages have the ROS 2 encoding (cdr, ros2msg), as in a recording. A message is serialised only while someone
    listens, on either side.

    Args:
        transport: of the node.
        address: HOST:PORT of the server; port 0 chooses a free one.

    Attributes:
        url: of the server, for "Open connection" in Foxglove.

    Raises InputError when foxglove-sdk is missing or the server cannot be started.
    """

    def __init__(self, transport: Transport, address: str = DEFAULT_ADDRESS) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise InputError(f"--foxglove {address}: give HOST:PORT, such as {DEFAULT_ADDRESS}")
        try:
            import foxglove
        except ModuleNotFoundError as error:
            if error.name != "foxglove":
                raise
            raise InputError('--foxglove needs foxglove-sdk; pip install "vps_ros[foxglove]"') from None
        foxglove.set_log_level("ERROR")
        self._transport, self._foxglove = transport, foxglove
        self._context = foxglove.Context()
        self._channels: dict[tuple[str, str], Channel] = {}
        self._clients = _Clients()
        try:
            self._server = foxglove.start_server(
                name=transport.node_name,
                host=host,
                port=int(port),
                context=self._context,
                server_listener=self._listener(),
                message_backlog_size=_BACKLOG,
            )
        except RuntimeError as error:
            raise InputError(f"--foxglove {address}: {error}; choose another address") from None
        self.url = f"ws://{host}:{self._server.port}"

    def close(self) -> None:
        """Stops the server; the other transport stays open."""
        self._server.stop()

    @property
    def node_name(self) -> str:
        return self._transport.node_name

    def resolve(self, topic: str) -> str:
        return self._transport.resolve(topic)

    def subscribe(self, topic: str, kind: str, qos: QosProfile, callback: Callable[[bytes], None]) -> Subscription:
        channel = self._channel(topic, kind)

        def receive(data: bytes) -> None:
            callback(data)
            channel.send(data)

        return self._transport.subscribe(topic, kind, qos, receive)

    def advertise(self, topic: str, kind: str, qos: QosProfile) -> Publisher:
        channel = self._channel(topic, kind)
        channel.latched = qos.latched
        return _Publisher(self._transport.advertise(topic, kind, qos), channel)

    def serve(self, name: str, kind: str, handle: Callable[[Any], tuple[bool, str]]) -> None:
        self._transport.serve(name, kind, handle)

    def publishers(self, topic: str) -> Sequence[Endpoint]:
        return self._transport.publishers(topic)

    def topics(self) -> Mapping[str, set[str]]:
        return self._transport.topics()

    def transforms(self, frame_id: str) -> Transforms:
        return self._transport.transforms(frame_id)

    def now(self) -> int:
        return self._transport.now()

    def _channel(self, topic: str, kind: str) -> Channel:
        """The channel of a topic, which stays open: clients see it again after the node was configured anew."""
        name = self.resolve(topic)
        if (name, kind) not in self._channels:
            text = typestore().generate_msgdef(kind, ros_version=2)[0]
            schema = self._foxglove.Schema(name=kind, encoding="ros2msg", data=text.encode())
            opened = self._foxglove.Channel(name, schema=schema, message_encoding="cdr", context=self._context)
            self._channels[name, kind] = Channel(opened, self._clients, self.now)
        return self._channels[name, kind]

    def _listener(self) -> Any:
        channels, clients = self._channels, self._clients

        class Listener(self._foxglove.ServerListener):  # type: ignore[name-defined, misc]
            def on_subscribe(self, client: Any, channel: Any) -> None:
                clients.add(channel.id, 1)
                for one in list(channels.values()):
                    if one.id == channel.id:
                        one.send_last()

            def on_unsubscribe(self, client: Any, channel: Any) -> None:
                clients.add(channel.id, -1)

        return Listener()


class _Clients:
    """Number of clients that listen to each channel, by its id: one may subscribe while the channel is being opened."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._lock = Lock()

    def add(self, channel: int, change: int) -> None:
        with self._lock:
            self._counts[channel] = max(self._counts[channel] + change, 0)

    def __getitem__(self, channel: int) -> int:
        return self._counts[channel]


class Channel:
    """One topic of the server; any thread may call.

    Attributes:
        latched: late subscribers get the last message.
    """

    def __init__(self, channel: Any, clients: _Clients, now: Callable[[], int]) -> None:
        self._channel, self._clients, self._now = channel, clients, now
        self._last: bytes | None = None
        self.id = channel.id()
        self.latched = False

    @property
    def subscribers(self) -> int:
        """Clients that listen now."""
        return self._clients[self.id]

    def send(self, data: bytes | memoryview) -> None:
        if not self.latched and not self.subscribers:
            return
        data = bytes(data)
        if self.latched:
            self._last = data
        if self.subscribers:
            self._channel.log(data, log_time=self._now())

    def send_last(self) -> None:
        """Sends the last message of a latched topic again, for a client that has just subscribed."""
        if self._last is not None:
            self._channel.log(self._last, log_time=self._now())


class _Publisher:
    """A publisher of the transport and a channel."""

    def __init__(self, publisher: Publisher, channel: Channel) -> None:
        self._publisher, self._channel = publisher, channel

    @property
    def subscribers(self) -> int:
        return self._publisher.subscribers + self._channel.subscribers

    def send(self, message: Any) -> bool:
        if self._channel.subscribers or self._channel.latched:
            self._channel.send(bytes(typestore().serialize_cdr(message, message.__msgtype__)))
        return self._publisher.send(message) if self._publisher.subscribers or self._channel.latched else True

    def close(self) -> None:
        self._publisher.close()
