"""Memory of a process that handles images many times a second."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt (malloc.h)."""
_KEPT, _LARGEST = 256 << 20, 32 << 20


def keep_memory() -> None:
    """Lets this process keep up to 256 MiB of freed memory, where the C library is glibc; not blocks above 32 MiB.

    The system hands out new memory page by page, which takes several times as long as filling an image.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST)
