"""Files of models: those that are shipped with the package, and any other."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vps_ros.errors import InputError

_WEIGHTS = Path(__file__).resolve().parent / "weights"


def shipped_models() -> tuple[str, ...]:
    """Names of the models in the package, which Config.model takes as well as a path."""
    return tuple(sorted(path.stem for path in _WEIGHTS.glob("*.onnx")))


def model_path(name: str) -> Path:
    """The ONNX file of a shipped model, or at a path; raises InputError when there is none."""
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
    """SHA-256 of a file: tracker weights that were learned for one model are refused for another."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
