"""Models, losses, training and export; the only folder that imports torch.

This module has what commands need before torch is imported: a check of what is installed, and progress reports.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from vps_ros.errors import InputError


def require_training(what: str, *more: str) -> None:
    """Checks that onnx, torch and the packages `more` are installed.

    Raises InputError that names the missing package, the command or option `what` that needs it, and how to install it.
    """
    for name in ("onnx", "torch", *more):
        if find_spec(name) is None:
            raise InputError(f'{what} needs {name}; pip install "vps_ros[train]"')


def _no_progress(items: Iterable[Any], label: str, total: int | None = None) -> Generator[Any, None, None]:
    yield from items


@dataclass(frozen=True)
class Reporter:
    """Where long work reports its progress; the defaults print nothing.

    Attributes:
        progress: (items, label, total) -> the same items, with a progress bar.
        note: prints one line.
    """

    progress: Callable[..., Generator[Any, None, None]] = _no_progress
    note: Callable[[str], None] = lambda message: None


SILENT = Reporter()
