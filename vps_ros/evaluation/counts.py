"""The counts of an evaluation as bytes, for merging in another process."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

from vps_ros.errors import InputError
from vps_ros.evaluation.evaluator import Evaluator

_PACKAGES = ("vps_ros.evaluation.", "vps_ros.taxonomy", "vps_ros.datasets.labels")
"""Modules whose classes counts are made of."""
_OTHERS = {
    ("collections", "Counter"),
    ("collections", "deque"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


def dump_counts(evaluator: Evaluator) -> bytes:
    """The state of an evaluator; finished sequences take little space."""
    return pickle.dumps(evaluator, protocol=5)


def load_counts(data: bytes, where: object) -> Evaluator:
    """The evaluator of `dump_counts`, by the same version of this package.

    Raises InputError, with `where`, for anything else. No code in `data` is run.
    """
    try:
        found = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise InputError(f"{where}: not the counts of an evaluation by this version ({error})") from None
    if not isinstance(found, Evaluator):
        raise InputError(f"{where}: not the counts of an evaluation")
    return found


class _Unpickler(pickle.Unpickler):
    """Makes objects of known classes only: pickles from a store that others write to could call any function."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _OTHERS:
            return super().find_class(module, name)
        if module.startswith(_PACKAGES) and module in sys.modules and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of counts")
