"""Memory for pictures that come and go many times a second.

What the system hands out anew it hands out page by page, which for a picture of some megabytes takes several times as
long as filling it. So a writer serialises in the same room again and again, and what Cyclone frees is not given back.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from vps_ros.messages.typestore import typestore

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt (malloc.h)."""
_KEPT, _LARGEST = 256 << 20, 32 << 20
_LITTLE_ENDIAN = b"\0\1\0\0"


def keep_memory() -> None:
    """Lets this process keep up to 256 MiB that it has freed, where the C library is glibc; blocks above 32 MiB go."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST)


class Words(bytearray):
    """CDR whose length is a multiple of 4 already; Cyclone's binding would copy all of it to make it so."""

    def ljust(self, width: int, fill: bytes = b" ", /) -> bytearray:  # type: ignore[override]
        return self if width <= len(self) else super().ljust(width, fill)


class Room:
    """Memory for one message at a time; what it gave is overwritten by the next one."""

    def __init__(self) -> None:
        self._words = Words()

    def serialise(self, message: Any, kind: str) -> Words:
        """The CDR of a message, and zeros up to a multiple of 4 bytes."""
        store = typestore()
        definition = store.get_msgdef(kind)
        size = len(_LITTLE_ENDIAN) + definition.getsize_cdr(0, message, store)
        words = self._of(size)
        # What aligns the fields is left as it is.
        np.frombuffer(words, np.uint8).fill(0)
        view = memoryview(words)
        view[: len(_LITTLE_ENDIAN)] = _LITTLE_ENDIAN
        definition.serialize_cdr_le(view[len(_LITTLE_ENDIAN) :], 0, message, store)
        return words

    def fill(self, cdr: bytes | memoryview) -> Words:
        """The same of a message that is serialised already."""
        words = self._of(len(cdr))
        memoryview(words)[: len(cdr)] = cdr
        memoryview(words)[len(cdr) :] = bytes(len(words) - len(cdr))
        return words

    def _of(self, size: int) -> Words:
        size += -size % 4
        if len(self._words) != size:
            self._words = Words(size)
        return self._words
