"""The online memory buffers of Video-kMaX table 5b: by place, by appearance, by both."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.lifecycle import Lifecycle
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.stages import AppearanceStage, MemoryStage


def location(config: Config) -> Tracker:
    """The location-aware memory without appearance: place decides alone."""
    return CascadeTracker(_by_place, config, Memory(), uses_embeddings=False)


def appearance(config: Config) -> Tracker:
    """The naive memory buffer: appearance decides alone."""
    return CascadeTracker(_by_appearance, config, Memory(), needs_embeddings=True)


def hila_mb(config: Config) -> Tracker:
    """HiLA-MB without video stitching, which needs clips: equations 3 to 5 as the paper has them."""
    return CascadeTracker(_by_both, config, Memory())


def _by_place(config: Config) -> tuple[list[MemoryStage], Lifecycle]:
    alpha = config.location_threshold
    return [MemoryStage(alpha, alpha, config.location_temperature)], parts.lifecycle(config)


def _by_appearance(config: Config) -> tuple[list[AppearanceStage], Lifecycle]:
    return [AppearanceStage(config.memory_threshold)], parts.lifecycle(config)


def _by_both(config: Config) -> tuple[list[MemoryStage], Lifecycle]:
    alpha, place = config.memory_threshold, config.location_threshold
    return [MemoryStage(alpha, place, config.location_temperature)], parts.lifecycle(config)
