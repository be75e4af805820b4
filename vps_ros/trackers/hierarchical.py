"""The default tracker: pixels of the previous frame, pixels of the one before, then the location-aware memory."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.stages import MemoryStage, PixelStage


def hierarchical(config: Config) -> Tracker:
    """The cascade of docs/tracking.md."""
    pixels = parts.pixels(config)
    stages = [
        PixelStage(pixels, steps, config.pixel_threshold, config.class_change_threshold)
        for steps in ((1, 2) if config.temporal_consistency else (1,))
    ]
    memory = MemoryStage(config.memory_threshold, config.location_threshold, config.location_temperature)
    return CascadeTracker([*stages, memory], parts.memory(config), parts.lifecycle(config), pixels)
