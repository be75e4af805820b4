"""The online memory buffers of Video-kMaX table 5b: by place, by appearance, by both."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.stages import AppearanceStage, MemoryStage


def location(config: Config) -> Tracker:
    """The location-aware memory without appearance: place decides alone."""
    alpha = config.location_threshold
    stage = MemoryStage(alpha, alpha, config.location_temperature, isotropic=False)
    return CascadeTracker([stage], parts.memory(config), parts.lifecycle(config), uses_embeddings=False)


def appearance(config: Config) -> Tracker:
    """The naive memory buffer: appearance decides alone."""
    stage = AppearanceStage(config.memory_threshold)
    return CascadeTracker([stage], parts.memory(config), parts.lifecycle(config), needs_embeddings=True)


def hila_mb(config: Config) -> Tracker:
    """HiLA-MB without video stitching, which needs clips: equations 3 to 5 as the paper has them."""
    stage = MemoryStage(
        config.memory_threshold, config.location_threshold, config.location_temperature, isotropic=False
    )
    return CascadeTracker([stage], parts.memory(config), parts.lifecycle(config))
