"""TensorRT's engines: where they are kept, by what they depend on, and a line that tells how long a first one takes."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TextIO

import onnxruntime as ort

from vps_ros.segmenters import cuda
from vps_ros.shipped import fingerprint

_MAJORS = range(12, 7, -1)
"""Releases of TensorRT to look for, the newest first."""
_EVERY = 5.0
"""Seconds between two lines where the terminal cannot rewrite one."""


@dataclass(frozen=True)
class Machine:
    """What an engine depends on besides its model: versions and the GPU; "none" for what is not there."""

    onnxruntime: str
    tensorrt: str
    cuda: str
    gpu: str


def this_machine() -> Machine:
    return Machine(
        ort.__version__,
        tensorrt_version() or "none",
        _built_for() or cuda.driver_version() or "none",
        cuda.gpu_name() or "none",
    )


def _built_for() -> str | None:
    """Version of CUDA that this ONNX Runtime was built for, which old releases do not tell."""
    try:
        from onnxruntime.capi import build_and_package_info
    except ImportError:
        return None
    return getattr(build_and_package_info, "cuda_version", None)


def tensorrt_version() -> str | None:
    """Of the TensorRT library that programs find, as 10.9.0; None without one."""
    for major in _MAJORS:
        try:
            library = ctypes.CDLL(f"libnvinfer.so.{major}")
        except OSError:
            continue
        number = library.getInferLibVersion()
        # 8.6.1 is 8601; from 10 on, 10.9.0 is 100900.
        unit = 10_000 if number >= 10_000 else 1000
        return f"{number // unit}.{number % unit // 100}.{number % 100}"
    return None


def engine_folder(model: Path, precision: str, machine: Machine) -> Path:
    """Where the engines of this model file are kept; another model, version, GPU or precision has another."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = f"ort{machine.onnxruntime}-trt{machine.tensorrt}-cuda{machine.cuda}-{machine.gpu}-{precision}"
    key = f"{model.stem}-{fingerprint(model)[:16]}-{versions}"
    return cache / "vps_ros" / "tensorrt" / re.sub(r"[^A-Za-z0-9._-]+", "_", key)


def is_built(folder: Path) -> bool:
    return any(folder.glob("*.engine"))


@contextmanager
def told(what: str, every: float = _EVERY, stream: TextIO | None = None) -> Iterator[None]:
    """Says on stderr what is being done and how long it has taken so far, until it is done or has failed."""
    stream = stream or sys.stderr
    began, done = perf_counter(), threading.Event()
    rewrites = stream.isatty()

    def line(end: str) -> None:
        minutes, seconds = divmod(int(perf_counter() - began), 60)
        stream.write(f"{chr(13) if rewrites else ''}{what}: {minutes}:{seconds:02d}{end}")
        stream.flush()

    def tell() -> None:
        line(" so far" if rewrites else " so far\n")
        while not done.wait(1.0 if rewrites else every):
            line(" so far" if rewrites else " so far\n")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    except BaseException:
        done.set()
        teller.join()
        line(", failed\n")
        raise
    done.set()
    teller.join()
    line(", done  \n")
