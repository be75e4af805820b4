"""The time of a call, and threads, memory and processor time of processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import cv2
from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(opencv: int = 1) -> Iterator[None]:
    """OpenCV with so many threads and NumPy's BLAS with one, in a `with` block or a decorated function."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(opencv)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)


def milliseconds(call: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    """The time of a call."""
    began = clock()
    call()
    return (clock() - began) * 1e3


def process_status(pid: int | str = "self") -> dict[str, str]:
    """The entries of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def memory_mib(entry: str = "VmRSS", pid: int | str = "self") -> float:
    """Resident memory of a process now, or the largest so far (VmHWM); 0 for one that has just ended."""
    return int(process_status(pid).get(entry, "0").split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
