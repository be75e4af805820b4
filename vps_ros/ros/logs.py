"""What the core logs, in the node's log."""

from __future__ import annotations

import logging
from typing import Any


class NodeLog(logging.Handler):
    """Hands records to a rclpy logger, and so to the screen, the log files and /rosout."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        # rclpy ties a severity to the line that logs, so that each needs a line of its own.
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
