"""Ending on SIGINT and SIGTERM in the order that a command needs."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from types import FrameType, TracebackType
from typing import NoReturn, TypeVar

Result = TypeVar("Result")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Waits for time to pass or for SIGINT or SIGTERM to come; a second one ends the process at once.

    A context manager, for the main thread.
    """

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> Signals:
        # A handler may run anywhere, also where a lock is held that it would need: it only counts. What wakes the
        # wait is the byte that the interpreter writes.
        self._end, self._told = socket.socketpair()
        self._end.setblocking(False)
        self._told.setblocking(False)
        self._woken_before = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        self._before = {one: signal.signal(one, self._handle) for one in _SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)
        signal.set_wakeup_fd(self._woken_before)
        self._end.close()
        self._told.close()

    def wait(self, seconds: float) -> bool:
        """Whether a signal came within so many seconds, or before."""
        if not self._count and seconds > 0:
            select.select([self._end], [], [], seconds)
        return self._count > 0

    def during(self, work: Callable[[], Result]) -> Result | None:
        """What `work`, which must not give None, gives or raises; None when a signal came before that.

        It is done in a thread of its own, since native code lets no signal through, and left behind then: the process
        must not go on for long, and end by `leave`.
        """
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        Thread(target=run, name="vps-work", daemon=True).start()
        while not future.done():
            if self.wait(0.02):
                return None
        return future.result()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            os._exit(128 + number)


def leave(code: int) -> NoReturn:
    """Ends the process while another thread is in native code, which would be torn down in the middle of it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
