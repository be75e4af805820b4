"""Video K-Net's tracker: quasi-dense similarity of query embeddings."""

from __future__ import annotations

from functools import partial

from vps_ros.config import Config
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.stages import QuasiDense


def quasi_dense(config: Config) -> Tracker:
    return CascadeTracker(partial(_ways, set()), config, Memory(), needs_embeddings=True)


def _ways(doubtful: set[int], config: Config) -> tuple[list[QuasiDense], QuasiDense]:
    rules = QuasiDense(
        config.match_threshold,
        config.object_threshold,
        config.init_threshold,
        config.instance_temperature,
        parts.lifecycle(config),
        doubtful,
    )
    return [rules], rules
