"""Segmentation -> identities."""

from __future__ import annotations

from collections.abc import Callable

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.flow import DisFlow, FlowHistory
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.lifecycle import Lifecycle
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.stages import MemoryStage, PixelStage

__all__ = ["Tracker", "make_tracker"]


def make_tracker(config: Config) -> Tracker:
    """The tracker that `config.tracker` names, with the parameters of `config`; raises InputError for one unknown."""
    try:
        make = _MAKERS[config.tracker]
    except KeyError:
        raise InputError(f"tracker: {config.tracker!r} is not one of {', '.join(_MAKERS)}") from None
    return make(config)


def _hierarchical(config: Config) -> Tracker:
    """Pixels of the previous frame, pixels of the one before, then the location-aware memory."""
    pixels = _pixels(config)
    stages = [_pixel_stage(config, pixels, steps) for steps in ((1, 2) if config.temporal_consistency else (1,))]
    return CascadeTracker([*stages, _memory_stage(config)], _memory(config), _lifecycle(config), pixels)


def _pixels(config: Config) -> PixelHistory:
    return PixelHistory(FlowHistory(DisFlow(config.flow_preset, config.flow_height)))


def _pixel_stage(config: Config, pixels: PixelHistory, steps: int) -> PixelStage:
    return PixelStage(pixels, steps, config.pixel_threshold, config.class_change_threshold)


def _memory_stage(config: Config) -> MemoryStage:
    return MemoryStage(config.memory_threshold, config.location_threshold, config.location_temperature)


def _memory(config: Config) -> Memory:
    return Memory(config.appearance_weight, config.velocity_weight)


def _lifecycle(config: Config) -> Lifecycle:
    return Lifecycle(
        config.confirm_hits, config.memory_tau, config.tentative_tau, in_seconds=config.memory_unit == "seconds"
    )


_MAKERS: dict[str, Callable[[Config], Tracker]] = {"hierarchical": _hierarchical}
