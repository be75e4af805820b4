"""Separates optical flow and masks from the association: their calls are timed, or replaced by recorded results."""

from __future__ import annotations

import copy
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

from vps_ros.flow.history import FlowHistory
from vps_ros.trackers import TRACKERS, tracker_class
from vps_ros.trackers.mask_propagation import LastMasks
from vps_ros.trackers.masks import MaskHistory

PIXELS = (FlowHistory, MaskHistory, LastMasks)
_OF_THE_IMAGE = ("colour_histograms", "camera_motion")
"""Functions in modules of trackers that use the image or the flow again: colours, and the motion of the camera."""


def of_the_image() -> list[tuple[ModuleType, str]]:
    """Those functions, in each module of the trackers that uses them."""
    for name in TRACKERS:
        # Imports the module: the registry does so only when a tracker is used.
        tracker_class(name)
    return [
        (module, name)
        for module_name, module in sys.modules.items()
        for name in _OF_THE_IMAGE
        if module_name.startswith("vps_ros.trackers.") and name in vars(module)
    ]


class Watch:
    """Calls of the watched methods; nested calls count once.

    Attributes:
        milliseconds: time in them since `start`; `in_functions`: the part of functions that are no methods.
        results: their results since `start`, each with the public attributes of the object.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._replayed: deque[Any] | None = None
        self.start()

    def start(self, results: list[Any] | None = None) -> None:
        """Starts a new step; with `results`, the calls return these in their order."""
        self.milliseconds = self.in_functions = 0.0
        self.results: list[Any] = []
        # The caller may modify a result.
        self._replayed = None if results is None else deque((_copied(a), _public(p)) for a, p in results)

    def over(self, method: Callable, of_class: bool) -> Callable:
        @functools.wraps(method)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._replayed is not None:
                result, public = self._replayed.popleft()
                if public:
                    vars(args[0]).update(public)
                return result
            if self._depth:
                return method(*args, **kwargs)
            self._depth += 1
            began = perf_counter()
            try:
                result = method(*args, **kwargs)
            finally:
                took = (perf_counter() - began) * 1e3
                self.milliseconds += took
                self.in_functions += 0 if of_class else took
                self._depth -= 1
            self.results.append((_copied(result), _public(vars(args[0])) if of_class else {}))
            return result

        return watched


@contextmanager
def watch(*owners: Any) -> Iterator[Watch]:
    """Watches the public methods and properties of classes in the context.

    An owner may also be a pair (owner, name): a function in a module that uses it, or one method.
    """
    one = Watch()
    kept = []
    for owner in owners:
        owner, names = owner if isinstance(owner, tuple) else (owner, None)
        for name, value in list(vars(owner).items()):
            if name == names or (names is None and not name.startswith("_") and _runs(value)):
                kept.append((owner, name, value))
    try:
        for owner, name, value in kept:
            of_class = isinstance(owner, type)
            if isinstance(value, property):
                assert value.fget is not None
                setattr(owner, name, property(one.over(value.fget, of_class)))
            else:
                setattr(owner, name, one.over(value, of_class))
        yield one
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _runs(value: Any) -> bool:
    return isinstance(value, property) or (callable(value) and not isinstance(value, (classmethod, staticmethod)))


def _public(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) for name, value in attributes.items() if not name.startswith("_")}


def _copied(result: Any) -> Any:
    return result.copy() if isinstance(result, np.ndarray) else copy.copy(result)
