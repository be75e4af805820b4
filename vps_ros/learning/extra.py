"""Whether what training needs is installed."""

from __future__ import annotations

from importlib.util import find_spec

from vps_ros.errors import InputError


def require_training(what: str, *more: str) -> None:
    """Raises InputError that says how to install what is missing for `what`: onnx, torch, or one of `more`."""
    for name in ("onnx", "torch", *more):
        if find_spec(name) is None:
            raise InputError(f'{what} needs {name}; pip install "vps_ros[train]"')
