"""The order of files by their names."""

from __future__ import annotations

import re
from pathlib import Path


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorting key by which numbers in names count as numbers; equal ones (1, 01) go by the name itself."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name
