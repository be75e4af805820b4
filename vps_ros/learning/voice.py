"""How long work speaks to people: the host gives it a voice; without one it is silent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


def _quiet(items: Iterable[Any], label: str, total: int | None = None) -> Iterable[Any]:
    return items


@dataclass(frozen=True)
class Voice:
    """`progress(items, label, total)` gives the items on and shows how far they are; `note(message)` says one line."""

    progress: Callable[..., Iterable[Any]] = _quiet
    note: Callable[[str], None] = lambda message: None


SILENT = Voice()
