"""The worker's health as tasks of diagnostic_updater."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_updater import Updater
from rclpy.node import Node

from vps_ros.messages.diagnostics import Status


class Diagnostics:
    """A status for each camera, published every `diagnostic_updater.period` seconds.

    Args:
        health: the status of every camera, by its name.
    """

    def __init__(self, node: Node, health: Callable[[], Mapping[str, Status]]) -> None:
        self._health = health
        self._updater = Updater(node)
        self._updater.setHardwareID("none")
        self._cameras: tuple[str, ...] = ()

    def watch(self, cameras: tuple[str, ...]) -> None:
        """From now on, these cameras and no others."""
        for name in self._cameras:
            self._updater.removeByName(_title(name))
        self._cameras = cameras
        for name in cameras:
            self._updater.add(_title(name), lambda stat, name=name: self._fill(stat, name))

    def _fill(self, stat: Any, camera: str) -> Any:
        status = self._health()[camera]
        stat.summary(bytes([status.level]), status.message)
        stat.hardware_id = status.hardware_id
        for key, value in status.values:
            stat.add(key, value)
        return stat


def _title(camera: str) -> str:
    return camera or "pipeline"
