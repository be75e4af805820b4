"""Says what is wrong when it starts to be, and once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import monotonic
from typing import Any

from vps_ros.messages.diagnostics import Level, Status

_NUMBER = re.compile(r"\d+")
_CALM = 60.0
"""Seconds without a trouble after which it is news again."""


class Watch:
    """Logs each camera's troubles and their end; numbers that change do not make another trouble.

    What comes and goes all the time is said once: diagnostics tell how it is now.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._last: dict[tuple[str, str], float] = {}
        self._unwell: set[str] = set()

    def look(self, statuses: Mapping[str, Status]) -> None:
        now = monotonic()
        self._last = {known: at for known, at in self._last.items() if now - at < _CALM}
        for camera, status in statuses.items():
            said = f"{camera}: {status.message}" if camera else status.message
            if status.level <= Level.OK:
                if camera in self._unwell:
                    self._unwell.remove(camera)
                    self._logger.info(f"well again: {said}")
                continue
            trouble = (camera, _NUMBER.sub("#", status.message))
            known = trouble in self._last
            self._last[trouble] = now
            if known:
                continue
            self._unwell.add(camera)
            if status.level == Level.ERROR:
                self._logger.error(said)
            else:
                self._logger.warning(said)
