"""ONNX Runtime: execution providers, session options, TensorRT's engine files, and what its errors mean to a user.

The last functions call the CUDA driver library: GPU, version, pinned memory. Without CUDA they return None or False.
"""

from __future__ import annotations

import ctypes
import logging
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
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.files import fingerprint

log = logging.getLogger(__name__)

SEVERITY_ERROR = 3
"""ONNX Runtime's log level "error"; what it would warn about is checked here, and reported in our own words."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
PROVIDER_NAMES = {theirs: ours for ours, theirs in _PROVIDERS.items()}
_REMEDIES = {
    "cpu": "install onnxruntime",
    "cuda": "install onnxruntime-gpu in place of onnxruntime, with CUDA and cuDNN",
    "tensorrt": "install onnxruntime-gpu in place of onnxruntime, with CUDA and TensorRT",
}
_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
_SHAPE_OPERATORS = (
    "Shape Size Gather Concat Unsqueeze Squeeze Slice Cast Reshape Add Sub Mul Mod Min Max Floor Ceil Range Equal "
    "Less Greater Not And Or Where Split Div ConstantOfShape Constant Expand Identity ReduceProd"
)
"""Operators that ONNX Runtime runs on the CPU on purpose where they compute shapes."""
_TENSORRT_RELEASES = range(12, 7, -1)
"""Major versions of TensorRT to look for, the newest first."""
_REPORT_SECONDS = 5.0
"""Time between two progress lines where the terminal cannot overwrite one."""
_DRIVER = "libcuda.so.1"
_PORTABLE = 1
"""CU_MEMHOSTREGISTER_PORTABLE: pinned for all contexts of the process."""
_NAME_LENGTH = 256


def available_providers(wanted: tuple[str, ...], allow_fallback: bool) -> tuple[str, ...]:
    """The providers of `wanted` that this build of ONNX Runtime has, in order; the CPU when none is left.

    Raises InputError for one that it lacks, unless `allow_fallback`, which logs a warning instead.
    """
    have = [ours for ours, theirs in _PROVIDERS.items() if theirs in ort.get_available_providers()]
    missing = [name for name in wanted if name not in have]
    if not missing:
        return wanted
    message = f"provider {missing[0]} is not available here (there is: {', '.join(have)}); {_REMEDIES[missing[0]]}"
    if not allow_fallback:
        raise InputError(f"{message}, or choose another with providers, or set allow_fallback")
    left = tuple(name for name in wanted if name in have) or ("cpu",)
    log.warning("%s; using %s instead", message, ", ".join(left))
    return left


def session_options(threads: int) -> ort.SessionOptions:
    """Options of a session: errors only in the log, and this number of threads; 0: one for each core."""
    options = ort.SessionOptions()
    options.log_severity_level = SEVERITY_ERROR
    options.intra_op_num_threads = threads or _cores()
    options.inter_op_num_threads = 1
    # Threads that spin after a run would take the cores from optical flow and post-processing.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # The plan of a run's buffers is a second block of memory beside the arena of the run that was planned.
    options.enable_mem_pattern = False
    options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
    return options


def provider_options(
    wanted: tuple[str, ...], engines: Path | None, half: bool
) -> list[str | tuple[str, dict[str, str]]]:
    """The `providers` argument of a session: ONNX Runtime's names, with options.

    Args:
        engines: folder of TensorRT's engines, where it is wanted.
        half: whether TensorRT computes in half precision.
    """
    names = list(wanted)
    if "tensorrt" in names and "cuda" not in names:
        # CUDA runs the operators that TensorRT lacks; on the CPU they would dominate the time.
        names.insert(names.index("tensorrt") + 1, "cuda")
    options = {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": os.fspath(engines or ""),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": os.fspath(engines or ""),
        "trt_fp16_enable": str(half),
    }
    return [(_PROVIDERS[name], options) if name == "tensorrt" else _PROVIDERS[name] for name in names]


def open_session(
    path: Path, wanted: tuple[str, ...], threads: int, engines: Path | None = None, half: bool = False
) -> ort.InferenceSession:
    """A session of a model file; arguments as of `session_options` and `provider_options`.

    Raises InputError when ONNX Runtime cannot load the file.
    """
    try:
        return ort.InferenceSession(os.fspath(path), session_options(threads), provider_options(wanted, engines, half))
    # ONNX Runtime's exceptions have no common base below Exception; each means that the file cannot be used.
    except Exception as error:
        why = explain_error(error, wanted) or (
            f"ONNX Runtime cannot load it ({first_line(error)}); give an ONNX file made by `vps-ros export`"
        )
        raise InputError(f"{path}: {why}") from None


def providers_in_use(session: ort.InferenceSession, wanted: tuple[str, ...], allow_fallback: bool) -> tuple[str, ...]:
    """The providers of a session, by our names.

    ONNX Runtime silently drops a provider that fails to start. Here that raises InputError, or logs a warning with
    `allow_fallback`.
    """
    used = tuple(PROVIDER_NAMES.get(name, name) for name in session.get_providers())
    lost = [name for name in wanted if name not in used]
    if lost:
        message = f"provider {lost[0]} is installed but did not start (in use: {', '.join(used)}); {_REMEDIES[lost[0]]}"
        if not allow_fallback:
            raise InputError(f"{message}, or set allow_fallback")
        log.warning("%s; continuing without it", message)
    return used


def operators_on_cpu(session: ort.InferenceSession) -> tuple[str, ...]:
    """Operators of a GPU session that run on the CPU, without those that compute shapes; sorted.

    Empty also where this release of ONNX Runtime does not report it.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return ()
    parts = session.get_provider_graph_assignment_info()
    nodes = [node for part in parts if part.ep_name == _PROVIDERS["cpu"] for node in part.get_nodes()]
    return tuple(sorted({node.op_type for node in nodes} - set(_SHAPE_OPERATORS.split())))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Machine:
    """What a TensorRT engine depends on besides its model: versions and the GPU; "none" for what is missing."""

    onnxruntime: str
    tensorrt: str
    cuda: str
    gpu: str


def this_machine() -> Machine:
    try:
        from onnxruntime.capi.build_and_package_info import cuda_version as built_for
    # Releases before 1.20 do not have it.
    except ImportError:
        built_for = None
    return Machine(
        ort.__version__,
        tensorrt_version() or "none",
        built_for or driver_version() or "none",
        gpu_name() or "none",
    )


def tensorrt_version() -> str | None:
    """Version of the installed TensorRT library, such as 10.9.0; None without one."""
    for major in _TENSORRT_RELEASES:
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
    """The cache folder of a model's engines; one for each model file, version, GPU and precision."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = f"ort{machine.onnxruntime}-trt{machine.tensorrt}-cuda{machine.cuda}-{machine.gpu}-{precision}"
    key = f"{model.stem}-{fingerprint(model)[:16]}-{versions}"
    return cache / "vps_ros" / "tensorrt" / re.sub(r"[^A-Za-z0-9._-]+", "_", key)


def engine_exists(folder: Path) -> bool:
    return any(folder.glob("*.engine"))


@contextmanager
def elapsed_time_shown(what: str, every: float = _REPORT_SECONDS, stream: TextIO | None = None) -> Iterator[None]:
    """Shows on stderr what is being done and the elapsed time, until the block ends, and whether it failed."""
    stream = stream or sys.stderr
    began, done = perf_counter(), threading.Event()
    overwrites = stream.isatty()

    def line(end: str) -> None:
        minutes, seconds = divmod(int(perf_counter() - began), 60)
        stream.write(f"{chr(13) if overwrites else ''}{what}: {minutes}:{seconds:02d}{end}")
        stream.flush()

    def report() -> None:
        while True:
            line(" so far" if overwrites else " so far\n")
            if done.wait(1.0 if overwrites else every):
                return

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    end = ", failed\n"
    try:
        yield
        end = ", done  \n"
    finally:
        done.set()
        reporter.join()
        line(end)


_MISSING_OPERATOR = (
    re.compile(r"Could not find an implementation for (?P<op>\w+)\((?P<version>\d+)\)"),
    re.compile(r"No Op registered for (?P<op>\w+) with domain_version of (?P<version>\d+)"),
    re.compile(r"Fatal error: (?P<op>[\w.:]+)\(-?\d+\) is not a registered function/op"),
)
_OUT_OF_MEMORY = re.compile(
    r"Failed to allocate memory for requested buffer of size (?P<bytes>\d+)|out of memory|_ALLOC_FAILED|"
    r"ALLOCATION_FAILED|bad allocation|std::bad_alloc",
    re.IGNORECASE,
)
_NEWER = re.compile(r"Opset (?P<opset>\d+) is under development|Unsupported model IR version: (?P<ir>\d+)")


def explain_error(error: BaseException, providers: tuple[str, ...]) -> str | None:
    """What is wrong and what to do, for errors of ONNX Runtime that a user can remedy; None for others."""
    text = str(error)
    where = " and ".join(providers)
    for pattern in _MISSING_OPERATOR:
        if found := pattern.search(text):
            version = found.groupdict().get("version")
            opset = f" of opset {version}" if version else ""
            return (
                f"ONNX Runtime {ort.__version__} has no operator {found['op']}{opset} on {where}; "
                "export the model without it, install a newer onnxruntime, or choose other providers"
            )
    if found := _OUT_OF_MEMORY.search(text):
        size = f", {int(found['bytes']) / 2**20:,.0f} MiB more were requested" if found["bytes"] else ""
        memory = "memory" if providers == ("cpu",) else "GPU memory"
        return (
            f"not enough {memory} on {where}{size}; close other programs that use it, or export the model with a "
            "smaller --size or in half precision"
        )
    if _NEWER.search(text):
        return f"made for a newer ONNX Runtime than {ort.__version__}; install a newer onnxruntime"
    return None


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def gpu_name() -> str | None:
    """Name of the first GPU; None without one."""
    try:
        driver = _driver()
        device, name = _first(driver), ctypes.create_string_buffer(_NAME_LENGTH)
        _checked(driver.cuDeviceGetName(name, _NAME_LENGTH, device))
    except OSError:
        return None
    return name.value.decode(errors="replace")


def driver_version() -> str | None:
    """The newest CUDA version that the driver supports, such as 12.4; None without a driver."""
    try:
        driver, version = _driver(), ctypes.c_int()
        _checked(driver.cuDriverGetVersion(ctypes.byref(version)))
    except OSError:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def pin(array: NDArray) -> bool:
    """Pins the memory of an array, so that the GPU copies it directly; returns whether that succeeded.

    The array must not be freed before `unpin`.
    """
    try:
        driver = _driver()
        with _context(driver):
            address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            _checked(driver.cuMemHostRegister_v2(address, size, _PORTABLE))
    except OSError:
        return False
    return True


def unpin(array: NDArray) -> None:
    """Reverses `pin`; must be called before the memory is freed."""
    try:
        driver = _driver()
        with _context(driver):
            _checked(driver.cuMemHostUnregister(ctypes.c_void_p(array.ctypes.data)))
    except OSError:
        return


def _driver() -> ctypes.CDLL:
    """The driver library; raises OSError without one, as a failed call does."""
    driver = ctypes.CDLL(_DRIVER)
    _checked(driver.cuInit(0))
    return driver


def _first(driver: ctypes.CDLL) -> ctypes.c_int:
    device = ctypes.c_int()
    _checked(driver.cuDeviceGet(ctypes.byref(device), 0))
    return device


@contextmanager
def _context(driver: ctypes.CDLL) -> Iterator[None]:
    """Makes the primary context of the first GPU current; ONNX Runtime uses the same one."""
    device, context = _first(driver), ctypes.c_void_p()
    _checked(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _checked(driver.cuCtxPushCurrent_v2(context))
        try:
            yield
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)


def _checked(result: int) -> None:
    if result:
        raise OSError(f"CUDA error {result}")
