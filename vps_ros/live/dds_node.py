"""The node `vps` on the wire, without ROS: cameras in, panoptic frames out, diagnostics and services beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from time import monotonic, time_ns
from typing import Any

from vps_ros.config import LiveConfig
from vps_ros.live.dds import Bus, Profile
from vps_ros.live.dds_camera import CameraSubscription, read_wire
from vps_ros.live.dds_graph import Graph
from vps_ros.live.dds_nodes import Announcement
from vps_ros.live.dds_services import Service
from vps_ros.live.dds_sink import DdsSink
from vps_ros.live.dds_twins import Twins
from vps_ros.live.health import health
from vps_ros.live.worker import Camera, Worker
from vps_ros.messages import diagnostics
from vps_ros.messages.diagnostics import Status
from vps_ros.messages.typestore import BagMessages
from vps_ros.online import OnlinePanoptic


class DdsNode:
    """Works from `start` until `stop`; call `tick` about once a second in between.

    Args:
        topics: camera -> image topic; the name of a single camera may be "", which leaves it out of the outputs'.
        made: the pipeline of each.
        name: of the node; outputs are `/NAME/tracks` or `/NAME/CAMERA/tracks`.

    Raises InputError when a name cannot be used.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Mapping[str, str],
        made: Sequence[OnlinePanoptic],
        live: LiveConfig,
        name: str = "vps",
    ) -> None:
        self._bus, self._topics, self._live, self._name = bus, dict(topics), live, name
        prefixes = [f"/{name}/{camera}" if camera else f"/{name}" for camera in topics]
        self._sinks = [DdsSink(bus, prefix, live.panoptic_ids) for prefix in prefixes]
        rows = zip(topics, made, self._sinks, strict=True)
        self.worker = Worker([Camera(camera, pipeline, read_wire, sink) for camera, pipeline, sink in rows])
        self._diagnostics = bus.writer(diagnostics.TOPIC, diagnostics.TYPE, Profile())
        self._graph = Graph(bus)
        self._twins = Twins(self._graph, [f"{prefix}/tracks" for prefix in prefixes])
        self._announcement = Announcement(bus, name)
        self._subscriptions: list[CameraSubscription] = []
        self._services: list[Service] = []

    def start(self) -> None:
        """Subscribes, and works on what comes."""
        self.worker.start()
        profile = Profile(self._live.reliability, self._live.depth)
        for index, topic in enumerate(self._topics.values()):
            offer = partial(self.worker.offer, index)
            self._subscriptions.append(CameraSubscription(self._bus, topic, profile, self._live.patience, offer))
        self._services = [
            Service(self._bus, f"/{self._name}/reset_tracks", "std_srvs/srv/Trigger", self._reset),
            Service(self._bus, f"/{self._name}/enable", "std_srvs/srv/SetBool", self._enable),
        ]

    def tick(self) -> tuple[Status, ...]:
        """Looks after everything, and publishes how it is."""
        twin = self._twins.look(monotonic())
        notes = [subscription.look(self._graph) or twin for subscription in self._subscriptions]
        statuses = health(self.worker, self._live.patience, self._name, notes)
        statuses = tuple(
            replace(status, values=status.values + _ends(subscription, sink))
            for status, subscription, sink in zip(statuses, self._subscriptions, self._sinks, strict=True)
        )
        self._announcement.look()
        if self._diagnostics.listeners:
            self._diagnostics.send(diagnostics.diagnostics(time_ns(), statuses, BagMessages()))
        return statuses

    def stop(self) -> bool:
        """Ends within a second; whether the worker did (Worker.stop)."""
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions = []
        return self.worker.stop()

    def _reset(self, request: Any) -> Future:
        return self.worker.reset_tracks()

    def _enable(self, request: Any) -> Future:
        self.worker.enabled = bool(request.data)
        done: Future = Future()
        done.set_result("enabled" if request.data else "disabled")
        return done


def _ends(subscription: CameraSubscription, sink: DdsSink) -> tuple[tuple[str, str], ...]:
    """Who is at the other ends."""
    listeners = ", ".join(f"{name} ({count})" for name, count in sink.listeners.items())
    return (("publishers", str(subscription.publishers)), ("listeners", listeners or "none"))
