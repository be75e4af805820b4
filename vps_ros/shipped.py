"""The models that come with the package, and the files of any model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vps_ros.errors import InputError

_WEIGHTS = Path(__file__).resolve().parent / "weights"


def shipped_models() -> tuple[str, ...]:
    """Names that Config.model may have besides a path."""
    return tuple(sorted(path.stem for path in _WEIGHTS.glob("*.onnx")))


def model_path(name: str) -> Path:
    """The ONNX file of a shipped model's name, or of a path; raises InputError when there is none."""
    shipped = _WEIGHTS / f"{name}.onnx"
    if name in shipped_models():
        return shipped
    path = Path(name).expanduser()
    if path.is_file():
        return path
    raise InputError(
        f"model {name!r}: {'a folder, not an ONNX file' if path.is_dir() else 'no such file'}; "
        f"give the path of an ONNX file or a shipped model ({', '.join(shipped_models()) or 'none is installed'})"
    )


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, by which what was learned for one model is kept from another."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
