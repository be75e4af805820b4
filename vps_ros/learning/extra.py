"""Whether what training needs is installed."""

from __future__ import annotations

from vps_ros.errors import InputError


def require_training(what: str) -> None:
    """Raises InputError that says how to install what is missing for `what`."""
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise InputError(f'{what} needs {error.name}; pip install "vps_ros[train]"') from None
