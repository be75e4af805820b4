"""The parts that trackers share, made from a settled Config."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.flow import DisFlow, FlowHistory
from vps_ros.trackers.lifecycle import Lifecycle


def dis(config: Config) -> DisFlow:
    return DisFlow(config.flow_preset, config.flow_height)


def flow(config: Config) -> FlowHistory:
    return FlowHistory(dis(config))


def lifecycle(config: Config) -> Lifecycle:
    return Lifecycle(
        config.confirm_hits, config.memory_tau, config.tentative_tau, in_seconds=config.memory_unit == "seconds"
    )
