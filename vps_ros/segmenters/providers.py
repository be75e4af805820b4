"""ONNX Runtime's execution providers: which there are, how they are set up, and which were taken."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import onnxruntime as ort

from vps_ros.errors import InputError

log = logging.getLogger(__name__)

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_NAMES = {theirs: ours for ours, theirs in _PROVIDERS.items()}
_REMEDIES = {
    "cpu": "install onnxruntime",
    "cuda": "install onnxruntime-gpu in place of onnxruntime, with CUDA and cuDNN",
    "tensorrt": "install onnxruntime-gpu in place of onnxruntime, with CUDA and TensorRT",
}
_QUIET = 3
"""ONNX Runtime's severity "error"; what it would warn about is checked and said here."""
_LISTS_NODES = "session.record_ep_graph_assignment_info"
_OF_SHAPES = frozenset(
    (
        "Shape",
        "Size",
        "Gather",
        "Concat",
        "Unsqueeze",
        "Squeeze",
        "Slice",
        "Cast",
        "Reshape",
        "Add",
        "Sub",
        "Mul",
    )
    + ("Mod", "Min", "Max", "Floor", "Ceil", "Range", "Equal", "Less", "Greater", "Not", "And", "Or", "Where", "Split")
    + ("Div", "ConstantOfShape", "Constant", "Expand", "Identity", "ReduceProd")
)
"""Operators that ONNX Runtime leaves to the CPU on purpose where they compute sizes."""


def available_providers(wanted: tuple[str, ...], allow_fallback: bool) -> tuple[str, ...]:
    """The providers of `wanted` that this build of ONNX Runtime has, in order; the CPU when none is left.

    Raises InputError for one that it lacks, unless `allow_fallback`, which warns instead.
    """
    have = [ours for ours, theirs in _PROVIDERS.items() if theirs in ort.get_available_providers()]
    missing = [name for name in wanted if name not in have]
    if not missing:
        return wanted
    message = f"provider {missing[0]} is not available here (there is: {', '.join(have)}); {_REMEDIES[missing[0]]}"
    if not allow_fallback:
        raise InputError(f"{message}, or choose another with providers, or set allow_fallback")
    left = tuple(name for name in wanted if name in have) or ("cpu",)
    log.warning("%s; going on with %s", message, ", ".join(left))
    return left


def session_options(threads: int) -> ort.SessionOptions:
    """Quiet, with so many threads; 0 takes every core."""
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads or _cores()
    options.inter_op_num_threads = 1
    # Threads that go on spinning after a run would take the cores from optical flow and post-processing.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry(_LISTS_NODES, "1")
    return options


def setup(wanted: tuple[str, ...], engines: Path | None, half: bool) -> list[str | tuple[str, dict[str, str]]]:
    """What ONNX Runtime is given: names of its own, with options.

    Args:
        engines: folder of TensorRT's engines, when it is wanted.
        half: whether TensorRT computes in half precision.
    """
    names = list(wanted)
    if "tensorrt" in names and "cuda" not in names:
        # What TensorRT cannot do, CUDA can; the CPU would take the whole time.
        names.insert(names.index("tensorrt") + 1, "cuda")
    options = {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": os.fspath(engines or ""),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": os.fspath(engines or ""),
        "trt_fp16_enable": str(half),
    }
    return [(_PROVIDERS[name], options) if name == "tensorrt" else _PROVIDERS[name] for name in names]


def providers_in_use(session: ort.InferenceSession, wanted: tuple[str, ...], allow_fallback: bool) -> tuple[str, ...]:
    """The session's providers.

    ONNX Runtime drops one that fails to start and goes on without; here that is an InputError, or a warning with
    `allow_fallback`.
    """
    used = tuple(_NAMES.get(name, name) for name in session.get_providers())
    lost = [name for name in wanted if name not in used]
    if lost:
        message = f"provider {lost[0]} is installed but did not start (in use: {', '.join(used)}); {_REMEDIES[lost[0]]}"
        if not allow_fallback:
            raise InputError(f"{message}, or set allow_fallback")
        log.warning("%s; going on without it", message)
    return used


def left_to_the_cpu(session: ort.InferenceSession) -> tuple[str, ...]:
    """Operators of a session that its other providers lack, besides those that compute sizes; sorted.

    Empty also where this release of ONNX Runtime does not tell.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return ()
    parts = session.get_provider_graph_assignment_info()
    nodes = [node for part in parts if part.ep_name == _PROVIDERS["cpu"] for node in part.get_nodes()]
    return tuple(sorted({node.op_type for node in nodes} - _OF_SHAPES))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
