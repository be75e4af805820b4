"""Says what is wrong when it starts to be, and once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vps_ros.messages.diagnostics import Level, Status

_NUMBER = re.compile(r"\d+")


class Watch:
    """Logs each camera's troubles; numbers that change do not make another trouble."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._said: dict[str, str] = {}

    def look(self, statuses: Mapping[str, Status]) -> None:
        for camera, status in statuses.items():
            trouble = _NUMBER.sub("#", status.message) if status.level > Level.OK else ""
            before, self._said[camera] = self._said.get(camera, ""), trouble
            if trouble == before:
                continue
            said = f"{camera}: {status.message}" if camera else status.message
            if status.level == Level.ERROR:
                self._logger.error(said)
            elif status.level == Level.WARN:
                self._logger.warning(said)
            else:
                self._logger.info(f"well again: {said}")
