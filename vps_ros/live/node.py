"""The node `vps`, the same for every transport: camera images in, panoptic frames out, services and diagnostics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from vps_ros.config import LiveConfig
from vps_ros.depth.locator import ObjectLocator
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.live import health
from vps_ros.live.health import Level, Status, StatusLog
from vps_ros.live.subscriptions import CameraSubscription, DepthSubscription, read_image
from vps_ros.live.transport import Publisher, QosProfile, Transforms, Transport
from vps_ros.live.worker import Camera, Worker
from vps_ros.messages.panoptic import (
    CAMERA_INFO,
    CAMERA_INFO_TYPE,
    DEPTH_OUTPUTS,
    LABEL_INFO,
    LABEL_INFO_TYPE,
    LIVE_OUTPUTS,
)
from vps_ros.online import OnlinePanoptic
from vps_ros.taxonomy import VOID_ID

log = logging.getLogger(__name__)


class LiveNode:
    """Life of the node: `configure`, `activate`, `deactivate`, `cleanup`; the first two may follow again.

    Call `tick` about once a second in every state.

    Attributes:
        names: of the cameras, which diagnostics show; `configure` sets them.
        cameras: while configured; empty otherwise.
        worker: while active; None otherwise.
        enabled: last request of the service `~/enable`.
    """

    def __init__(self, transport: Transport) -> None:
        self.names: tuple[str, ...] = ("",)
        self.cameras: tuple[Camera, ...] = ()
        self.worker: Worker | None = None
        self.enabled = True
        self._transport = transport
        self._images: tuple[str, ...] = ()
        self._live = LiveConfig()
        self._depth_topics: tuple[str, ...] = ()
        self._outputs: list[CameraOutputs] = []
        self._subscriptions: list[CameraSubscription] = []
        self._depths: list[DepthSubscription] = []
        self._transforms: Transforms | None = None
        self._duplicates: DuplicateNodeMonitor | None = None
        self._log = StatusLog()
        self._diagnostics = transport.advertise(health.TOPIC, health.TYPE, QosProfile())
        transport.serve("~/reset_tracks", "std_srvs/srv/Trigger", lambda request: self.reset_tracks())
        transport.serve("~/enable", "std_srvs/srv/SetBool", lambda request: self.enable(bool(request.data)))

    def configure(
        self,
        images: Mapping[str, str],
        pipelines: Sequence[OnlinePanoptic],
        live: LiveConfig,
        show: Callable[[str, Frame, PanopticFrame], None] | None = None,
    ) -> None:
        """Opens the output topics.

        Args:
            images: name of each camera -> image topic. The outputs are `~/tracks` for the name "", which is allowed
                for a single camera, and `~/NAME/tracks` otherwise.
            pipelines: of each camera.
            show: gets the name of the camera, each frame and its result; must return at once.

        Raises InputError when a topic cannot be opened; nothing stays open then.
        """
        outputs: list[CameraOutputs] = []
        depth_topics = [depth_topic(live.depth_topic, name, len(images)) for name in images] if live.depth_topic else []
        try:
            if depth_topics and live.objects_frame:
                self._transforms = self._transport.transforms(live.objects_frame)
            for name, pipeline in zip(images, pipelines, strict=True):
                left_out = set() if live.panoptic_ids else {"panoptic_ids"}
                left_out |= set() if depth_topics else DEPTH_OUTPUTS.keys()
                if max((info.id for info in pipeline.taxonomy.classes), default=0) >= VOID_ID:
                    log.warning("no topic semantic: ids of %s do not fit into 8 bits", pipeline.taxonomy.name)
                    left_out.add("semantic")
                outputs.append(CameraOutputs(self._transport, name, left_out))
        except BaseException:
            for one in outputs:
                one.close()
            self._close_transforms()
            raise
        locators = [ObjectLocator(live.objects_frame, self._transforms) for _ in depth_topics]
        rows = zip(images, pipelines, outputs, strict=True)
        self.cameras = tuple(
            Camera(
                name,
                pipeline,
                read_image,
                sink,
                partial(self._camera_info, index),
                partial(self._locate, index, locators[index]) if locators else None,
                partial(show, name) if show else None,
            )
            for index, (name, pipeline, sink) in enumerate(rows)
        )
        self.names, self._images, self._outputs = tuple(images), tuple(images.values()), outputs
        self._depth_topics = tuple(depth_topics)
        self._live = live
        self._duplicates = DuplicateNodeMonitor(self._transport, [f"{one.prefix}tracks" for one in outputs])

    def activate(self) -> Worker:
        """Starts the worker and subscribes; raises InputError when a topic cannot be opened (then `deactivate`)."""
        self.worker = worker = Worker(
            self.cameras, clock=self._transport.now, batch=self._live.batch_cameras == "auto" and batches(self.cameras)
        )
        worker.enabled = self.enabled
        worker.start()
        qos = QosProfile(self._live.reliability, self._live.depth)
        for index, image in enumerate(self._images):
            self._subscriptions.append(CameraSubscription(self._transport, image, qos, partial(worker.offer, index)))
        for index, topic in enumerate(self._depth_topics):
            camera_info = partial(self._camera_info, index)
            self._depths.append(DepthSubscription(self._transport, topic, self._live.depth_slop, camera_info))
        return worker

    def deactivate(self) -> bool:
        """Unsubscribes and stops the worker within a second; false when it did not stop (see Worker.stop)."""
        for subscription in self._subscriptions:
            subscription.close()
        for depth in self._depths:
            depth.close()
        self._subscriptions, self._depths = [], []
        worker, self.worker = self.worker, None
        return worker is None or worker.stop()

    def cleanup(self) -> None:
        """Closes the output topics and releases the pipelines."""
        for output in self._outputs:
            output.close()
        self._close_transforms()
        self.cameras, self._outputs, self._duplicates = (), [], None

    def update(self, live: LiveConfig) -> None:
        """Takes over the parameters that may change while the node is configured."""
        self._live = live
        for depth in self._depths:
            depth.slop = live.depth_slop

    def reset_tracks(self) -> tuple[bool, str]:
        """Service `~/reset_tracks`: success and message."""
        if self.worker is None:
            return False, "the node is not active; it has no tracks to forget"
        if not self.worker.alive:
            return False, "the worker is not running; deactivate and activate"
        self.worker.reset_tracks()
        return True, "every object is forgotten before the next frame"

    def enable(self, on: bool) -> tuple[bool, str]:
        """Service `~/enable`: success and message."""
        self.enabled = on
        if self.worker is not None:
            self.worker.enabled = on
        return True, "enabled" if on else "disabled"

    def tick(self) -> None:
        """Checks every camera and the worker, logs what changed, publishes diagnostics."""
        statuses = self.statuses()
        if self.worker is not None:
            self._log.update(statuses)
        if self._diagnostics.subscribers:
            array = health.diagnostic_array(self._transport.now(), tuple(statuses.values()))
            self._diagnostics.send(array)

    def _camera_info(self, camera: int) -> Any:
        subscriptions = self._subscriptions
        return subscriptions[camera].camera_info() if camera < len(subscriptions) else None

    def _locate(self, camera: int, locator: ObjectLocator, result: PanopticFrame) -> PanopticFrame:
        depths = self._depths
        if camera >= len(depths):
            raise DroppedFrame("the node does not listen to depth images yet")
        return locator(result, depths[camera].of(result.stamp))

    def _close_transforms(self) -> None:
        if self._transforms is not None:
            self._transforms.close()
        self._transforms = None

    def statuses(self) -> dict[str, Status]:
        """Name of each camera -> its health."""
        node = self._transport.node_name
        if self.worker is None:
            state = "inactive" if self.cameras else "unconfigured"
            return {name: Status(health.status_name(node, name), Level.OK, state) for name in self.names}
        patience = self._live.patience
        duplicate = self._duplicates.check(monotonic()) if self._duplicates else ""
        problems = [subscription.check(patience) or duplicate for subscription in self._subscriptions]
        found = health.health(self.worker, patience, node, problems)
        rows = zip(self.names, found, self._subscriptions, self._outputs, strict=True)
        return {
            name: replace(status, values=status.values + _connections(subscription, output))
            for name, status, subscription, output in rows
        }


def batches(cameras: Sequence[Camera]) -> bool:
    """Whether frames of these cameras can go through one run of a network, on a GPU."""
    pipeline = cameras[0].pipeline
    shared = len(cameras) > 1 and all(camera.pipeline.segmenter is pipeline.segmenter for camera in cameras)
    return shared and pipeline.batched and pipeline.segmenter.providers[0] != "cpu"


def depth_topic(topic: str, camera: str, cameras: int) -> str:
    """The depth topic of a camera, below its name; raises InputError for an absolute one for several cameras."""
    if topic.startswith(("/", "~")):
        if cameras > 1:
            raise InputError(f"depth_topic {topic}: is the same for {cameras} cameras; give a name below each camera's")
        return topic
    return f"{camera}/{topic}" if camera else topic


class CameraOutputs:
    """Sink (worker.py) of one camera: a publisher for each output topic.

    Args:
        camera: its name; "" for a single camera.
        left_out: of LIVE_OUTPUTS and DEPTH_OUTPUTS, those without a topic.

    Attributes:
        prefix: of the topic names, `~/` or `~/NAME/`.

    Raises InputError when a topic cannot be opened; nothing stays open then.
    """

    def __init__(self, transport: Transport, camera: str = "", left_out: Collection[str] = ()) -> None:
        self.prefix = f"~/{camera}/" if camera else "~/"
        self._publishers: dict[str, Publisher] = {}
        kinds = {**LIVE_OUTPUTS, **DEPTH_OUTPUTS, LABEL_INFO: LABEL_INFO_TYPE, CAMERA_INFO: CAMERA_INFO_TYPE}
        try:
            for name in [name for name in kinds if name not in left_out]:
                qos = QosProfile(depth=1, latched=True) if name == LABEL_INFO else QosProfile()
                self._publishers[name] = transport.advertise(self.prefix + name, kinds[name], qos)
        except BaseException:
            self.close()
            raise

    def wants(self, output: str) -> bool:
        return output in self._publishers and self._publishers[output].subscribers > 0

    def publish(self, output: str, message: Any) -> None:
        self._publishers[output].send(message)

    def close(self) -> None:
        for publisher in self._publishers.values():
            publisher.close()
        self._publishers = {}

    @property
    def subscribers(self) -> dict[str, int]:
        """Output -> number of its subscribers, for those that have any."""
        counts = {name: publisher.subscribers for name, publisher in self._publishers.items()}
        return {name: count for name, count in counts.items() if count}


class DuplicateNodeMonitor:
    """Detects another node of the same name, whose messages would mix with those of this node.

    Args:
        topics: topics that only this node may publish.
    """

    _INTERVAL = 5.0
    _LEASE = 22.0
    """Seconds: the publishers of a killed process count until DDS notices its end (Cyclone: 10 s, Fast DDS: 20 s)."""

    def __init__(self, transport: Transport, topics: Iterable[str]) -> None:
        self._transport, self._topics = transport, tuple(topics)
        self._checked, self._since = -inf, inf
        self._problem = ""

    def check(self, now: float) -> str:
        """The problem, "" for none. `now` in seconds; it looks at the topics every few seconds."""
        if now - self._checked < self._INTERVAL:
            return self._problem
        self._checked = now
        shared = [topic for topic in self._topics if len(self._transport.publishers(topic)) > 1]
        self._since = min(self._since, now) if shared else inf
        self._problem = ""
        if now - self._since >= self._LEASE:
            topic = self._transport.resolve(shared[0])
            self._problem = f"another node also publishes {topic}; give one of the nodes another name (--name, __node)"
        return self._problem


def _connections(subscription: CameraSubscription, output: CameraOutputs) -> tuple[tuple[str, str], ...]:
    listeners = ", ".join(f"{name} ({count})" for name, count in output.subscribers.items())
    return (("publishers", str(subscription.publishers)), ("listeners", listeners or "none"))
