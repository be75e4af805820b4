"""Segmentation -> identities: the registry of the trackers.

A tracker is one file with a subclass of `Tracker` and its parameters, and one line here.
"""

from __future__ import annotations

import importlib
from typing import Protocol

from vps_ros.errors import InputError
from vps_ros.trackers.tracker import Tracker, TrackerParameters

__all__ = ["TRACKERS", "Tracker", "TrackerParameters", "make_tracker", "tracker_class"]

TRACKERS: dict[str, str] = {
    "hierarchical": "vps_ros.trackers.hierarchical:Hierarchical",
    "location": "vps_ros.trackers.hila_mb:Location",
    "appearance": "vps_ros.trackers.hila_mb:Appearance",
    "hila_mb": "vps_ros.trackers.hila_mb:HilaMb",
    "iou": "vps_ros.trackers.mask_propagation:Iou",
    "sort": "vps_ros.trackers.sort:Sort",
    "mask_propagation": "vps_ros.trackers.mask_propagation:MaskPropagation",
    "quasi_dense": "vps_ros.trackers.quasi_dense:QuasiDense",
    "pixel": "vps_ros.trackers.hybrid:Pixel",
    "instance": "vps_ros.trackers.hybrid:Instance",
    "hybrid": "vps_ros.trackers.hybrid:Hybrid",
}
"""Name -> module:class. A module is imported when its tracker is used."""


class TrackerChoice(Protocol):
    """The part of a Config that chooses a tracker."""

    @property
    def tracker(self) -> str: ...

    @property
    def tracker_parameters(self) -> TrackerParameters: ...

    @property
    def model(self) -> str: ...


def tracker_class(name: str) -> type[Tracker]:
    """The class of the tracker `name`; raises InputError for an unknown name."""
    if name not in TRACKERS:
        raise InputError(f"tracker: {name!r} is not one of {', '.join(TRACKERS)}")
    module, _, attribute = TRACKERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_tracker(config: TrackerChoice) -> Tracker:
    """The tracker that a Config chooses, with its parameters."""
    return tracker_class(config.tracker)(config.tracker_parameters, config.model)
