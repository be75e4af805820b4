"""Where the worker puts what it made: the one thing that a transport must bring."""

from __future__ import annotations

from typing import Any, Protocol


class Messages(Protocol):
    """Makes the messages of a transport; vps_ros.messages.typestore.BagMessages is one."""

    def make(self, name: str, /, **fields: Any) -> Any:
        """A message of type `name` ("sensor_msgs/msg/Image") from all of its fields."""
        ...

    def pixels(self, array: Any) -> Any:
        """What a `uint8[]` field takes."""
        ...


class Sink(Protocol):
    """The outputs of one camera. Called from the worker's thread alone."""

    @property
    def messages(self) -> Messages: ...

    def wants(self, output: str) -> bool:
        """Whether anybody listens to this one of messages.outputs.OUTPUTS; what nobody wants is not made."""
        ...

    def publish(self, output: str, message: Any) -> None:
        """Sends a message, or drops it: it must come back soon, whoever is slow. LABEL_INFO is for latecomers too."""
        ...
