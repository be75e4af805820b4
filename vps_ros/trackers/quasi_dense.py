"""Video K-Net's tracker: quasi-dense similarity of query embeddings."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.stages import QuasiDense


def quasi_dense(config: Config) -> Tracker:
    rules = QuasiDense(
        config.match_threshold,
        config.object_threshold,
        config.init_threshold,
        config.instance_temperature,
        parts.lifecycle(config),
    )
    return CascadeTracker([rules], parts.memory(config), rules, needs_embeddings=True)
