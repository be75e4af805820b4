"""The outputs of one camera on the wire."""

from __future__ import annotations

from typing import Any

from vps_ros.live.dds import Bus, Profile
from vps_ros.messages.outputs import LABEL_INFO, LABEL_INFO_TYPE, OUTPUTS
from vps_ros.messages.typestore import BagMessages

_LATCHED = Profile(depth=1, latched=True)


class DdsSink:
    """Sink (sink.py) whose topics are those of messages.outputs under `prefix` ("/vps", "/vps/front")."""

    def __init__(self, bus: Bus, prefix: str, panoptic_ids: bool = False) -> None:
        self.messages = BagMessages()
        self._writers = {
            name: bus.writer(f"{prefix}/{name}", kind, Profile())
            for name, kind in OUTPUTS.items()
            if panoptic_ids or name != "panoptic_ids"
        }
        self._writers[LABEL_INFO] = bus.writer(f"{prefix}/{LABEL_INFO}", LABEL_INFO_TYPE, _LATCHED)

    def wants(self, output: str) -> bool:
        return output in self._writers and self._writers[output].listeners > 0

    def publish(self, output: str, message: Any) -> None:
        self._writers[output].send(message)

    @property
    def listeners(self) -> dict[str, int]:
        """Output -> how many listen, of those to which anybody does."""
        counts = {name: writer.listeners for name, writer in self._writers.items()}
        return {name: count for name, count in counts.items() if count}
