"""The process of a live host: it ends by SIGINT or SIGTERM, and keeps the memory that it frees."""

from __future__ import annotations

import ctypes
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
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt (malloc.h)."""
_KEPT, _LARGEST = 256 << 20, 32 << 20


class Signals:
    """Waits for time to pass or for SIGINT or SIGTERM; a second signal ends the process at once.

    A context manager, for the main thread.
    """

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> Signals:
        # A handler may run while any lock is held, so that it only counts. The interpreter itself writes a byte to the
        # socket, which ends the wait.
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._handlers_before = {one: signal.signal(one, self._handle) for one in _SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one, handler in self._handlers_before.items():
            signal.signal(one, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._receiver.close()
        self._sender.close()

    def wait(self, seconds: float) -> bool:
        """Whether a signal has arrived, now or within so many seconds."""
        if not self._count and seconds > 0:
            select.select([self._receiver], [], [], seconds)
        return self._count > 0

    def during(self, work: Callable[[], Result]) -> Result | None:
        """The result of `work`, which must not be None; None when a signal arrives before.

        The work runs in another thread, because native code handles no signals. After a signal the thread goes on:
        the caller must soon end the process with `leave`.
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
    """Ends the process at once: a normal exit would tear down native code that another thread still runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def keep_memory() -> None:
    """Lets this process keep up to 256 MiB of freed memory, where the C library is glibc; not blocks above 32 MiB.

    The system hands out new memory page by page, which takes several times as long as filling an image.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST)
