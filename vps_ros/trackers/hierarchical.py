"""The default tracker: pixels, place, appearance and class of every object in memory, weighed in one assignment."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.judge import Judge, shipped
from vps_ros.trackers.lifecycle import Lifecycle
from vps_ros.trackers.objects import ObjectMemory
from vps_ros.trackers.scene import Scene
from vps_ros.trackers.stages import WholeStage


def hierarchical(config: Config, judge: Judge | None = None) -> Tracker:
    """The tracker of docs/tracking.md; `judge` stands in for the one in the package."""
    memory = ObjectMemory(config.appearance_weight, config.velocity_weight)
    scene = Scene(parts.flow(config), memory)
    judge = judge or shipped()

    def ways(config: Config) -> tuple[list[WholeStage], Lifecycle]:
        return [WholeStage(scene.pixels, judge, config.association_threshold)], parts.lifecycle(config)

    return CascadeTracker(ways, config, memory, scene)
