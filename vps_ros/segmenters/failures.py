"""What ONNX Runtime's errors mean to a user, in one line."""

from __future__ import annotations

import re

import onnxruntime as ort

_LACKING = (
    re.compile(r"Could not find an implementation for (?P<op>\w+)\((?P<version>\d+)\)"),
    re.compile(r"No Op registered for (?P<op>\w+) with domain_version of (?P<version>\d+)"),
    re.compile(r"Fatal error: (?P<op>[\w.:]+)\(-?\d+\) is not a registered function/op"),
)
_FULL = re.compile(
    r"Failed to allocate memory for requested buffer of size (?P<bytes>\d+)|out of memory|_ALLOC_FAILED|"
    r"ALLOCATION_FAILED|bad allocation|std::bad_alloc",
    re.IGNORECASE,
)
_NEWER = re.compile(r"Opset (?P<opset>\d+) is under development|Unsupported model IR version: (?P<ir>\d+)")


def explain(error: BaseException, providers: tuple[str, ...]) -> str | None:
    """What is wrong and what to do, for the errors that users can do something about; None for the others."""
    text = str(error)
    where = " and ".join(providers)
    for pattern in _LACKING:
        if found := pattern.search(text):
            version = found.groupdict().get("version")
            opset = f" of opset {version}" if version else ""
            return (
                f"ONNX Runtime {ort.__version__} has no operator {found['op']}{opset} on {where}; "
                "export the model without it, install a newer onnxruntime, or choose other providers"
            )
    if found := _FULL.search(text):
        size = f", it asked for {int(found['bytes']) / 2**20:,.0f} MiB more" if found["bytes"] else ""
        memory = "memory" if providers == ("cpu",) else "GPU memory"
        return (
            f"not enough {memory} on {where}{size}; close what else uses it, or export the model with a smaller "
            "--size or in half precision"
        )
    if _NEWER.search(text):
        return f"made for a newer ONNX Runtime than {ort.__version__}; install a newer onnxruntime"
    return None


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
