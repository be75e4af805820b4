"""`vps-ros view --live`: the images of cameras, with the results that a node publishes for them, over DDS."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, Full, Queue
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.commands.console import log_to_stderr, note, ticker, warn
from vps_ros.commands.dds import camera_topics, join
from vps_ros.commands.viewing import announce, finish
from vps_ros.drawing.viewer import Target, Viewer
from vps_ros.drawing.views import View
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.files import write_json
from vps_ros.live.health import TOPIC as DIAGNOSTICS
from vps_ros.live.health import TYPE as DIAGNOSTICS_TYPE
from vps_ros.live.health import status_name
from vps_ros.live.process import Signals
from vps_ros.live.subscriptions import CameraSubscription, read_image
from vps_ros.live.transport import QosProfile, Transport, absolute
from vps_ros.messages.panoptic import LABEL_INFO, LABEL_INFO_TYPE, OUTPUTS, read_panoptic
from vps_ros.messages.typestore import nanoseconds, read_message
from vps_ros.recording.label_classes import RecordedClasses, common_taxonomy
from vps_ros.taxonomy import Taxonomy

IMAGE = "image"
RESULT = ("panoptic", "segments", "tracks")
_WAITING = 64
"""Frames whose messages have not all arrived yet; older ones are shown without what is missing."""
_QUEUED = 256
_PATIENCE = 5.0
"""Seconds without images after which the reason is shown."""
_LATE = 1.0
"""Seconds for which an image waits for its result."""


@dataclass
class Parts:
    """What has arrived of one frame."""

    image: NDArray[np.uint8] | None = None
    messages: dict[str, Any] = field(default_factory=dict)
    since: float = field(default_factory=monotonic)


class LiveFrames:
    """Joins the messages of one camera and its node by their stamps. For one thread.

    Args:
        results: whether a node publishes results; images wait for them then.
    """

    def __init__(self, results: bool = True) -> None:
        self.results = results
        self._waiting: dict[int, Parts] = {}
        self._names: dict[int, str] = {}
        self._things: dict[int, bool] = {}
        self._taxonomy: tuple[tuple[Any, ...], Taxonomy] | None = None
        self._shown = self._newest = 0

    def names(self, label_info: Any) -> None:
        """Takes the names of the classes."""
        self._names |= {one.class_id: one.class_name for one in label_info.class_map}

    def add(self, name: str, stamp: int, content: Any) -> Iterator[View]:
        """Takes an image (`IMAGE`), or a message of RESULT; yields what can be shown now, in the order of stamps.

        Raises DroppedFrame for messages that do not fit each other.
        """
        if name == IMAGE:
            if stamp < self._newest:
                # Images come in order: a recording started again.
                self._waiting.clear()
                self._shown = 0
            self._newest = stamp
        if stamp <= self._shown:
            return
        parts = self._waiting.setdefault(stamp, Parts())
        if name == IMAGE:
            parts.image = content
        else:
            parts.messages[name] = content
        yield from self.ready()

    def ready(self) -> Iterator[View]:
        """What can be shown now: complete frames, and those that waited long enough for what is missing."""
        for stamp in sorted(self._waiting):
            parts = self._waiting[stamp]
            complete = parts.image is not None and (not self.results or len(parts.messages) == len(RESULT))
            late = len(self._waiting) > _WAITING or monotonic() - parts.since > _LATE
            newer = any(_complete(other) for at, other in self._waiting.items() if at > stamp)
            if not (complete or late or newer):
                return
            del self._waiting[stamp]
            # A result ahead of the images is from before the recording started again.
            if stamp <= self._newest or not self._newest:
                self._shown = stamp
            if parts.image is not None or len(parts.messages) == len(RESULT):
                yield View(stamp, parts.image, self._result(parts.messages))

    def _result(self, messages: dict[str, Any]) -> Any:
        if len(messages) < len(RESULT):
            return None
        frame = read_panoptic(*(messages[name] for name in RESULT))
        described = messages["segments"]
        self._names |= {s.class_id: s.class_name for s in described.segments}
        self._things |= {s.class_id: bool(s.is_thing) for s in described.segments}
        known = (described.taxonomy, len(self._names), len(self._things))
        if self._taxonomy is None or self._taxonomy[0] != known:
            names = RecordedClasses("the node", described.taxonomy, dict(self._names), dict(self._things))
            self._taxonomy = known, common_taxonomy(names, names)
        return replace(frame, taxonomy=self._taxonomy[1])


def _complete(parts: Parts) -> bool:
    return parts.image is not None and len(parts.messages) == len(RESULT)


def view_topics(args: argparse.Namespace, target: Target) -> int:
    """Shows the topics until Ctrl-C, or until the viewer is closed."""
    if args.gt:
        raise InputError("--gt: live topics have no ground truth; record them and view the recording")
    topics, node = camera_topics(args.live, "--live"), absolute(args.name)
    with log_to_stderr(), Signals() as signals, join(args) as participant:
        from vps_ros.live.dds_transport import DdsTransport

        transport = DdsTransport(participant, f"{args.name}_view")
        with Viewer(target, cameras=tuple(topics), name=", ".join(topics.values())) as viewer:
            announce(viewer)
            cameras = {name: _Camera(name, topic, node) for name, topic in topics.items()}
            shown = ", ".join(f"{one.topic} with {one.outputs}/panoptic" for one in cameras.values())
            note(f"domain {participant.domain}: {shown}; Ctrl-C ends")
            lost = _show(transport, cameras, viewer, signals)
            finish(viewer)
            for reason, count in lost.items():
                warn(f"{count} frame(s) skipped: {reason}")
            if args.json:
                write_json(args.json, viewer.to_json())
            if args.save:
                note(f"recorded: {args.save}; show it with `vps-ros view {args.save}`")
    return 0


class _Camera:
    """One camera: its subscriptions, its frames, and what the node reports of it."""

    def __init__(self, name: str, topic: str, node: str) -> None:
        self.topic, self.outputs = topic, f"{node}/{name}" if name else node
        self.shown = 0
        self._name, self._status = name, status_name(node[1:], name)
        self._frames, self._checked, self._problem = LiveFrames(), 0.0, ""
        self._latency: dict[str, float] = {}
        self._drops: dict[str, int] = {}

    def subscribe(self, transport: Transport, put: Callable[[str, str, str, bytes], None], opened: ExitStack) -> None:
        """Calls `put` with the name of the camera, that of the topic, the type and the data of each message."""
        best = QosProfile("best_effort", 1)
        self._images = CameraSubscription(transport, self.topic, best, lambda one: put(self._name, IMAGE, *one))
        opened.callback(self._images.close)
        for name, kind in {**{name: OUTPUTS[name] for name in RESULT}, LABEL_INFO: LABEL_INFO_TYPE}.items():
            qos = QosProfile(depth=1, latched=True) if name == LABEL_INFO else QosProfile()
            callback = partial(put, self._name, name, kind)
            opened.callback(transport.subscribe(f"{self.outputs}/{name}", kind, qos, callback).close)

    def check(self, transport: Transport) -> str:
        """Reports what is wrong with the images, once; a line for the terminal."""
        found = self._images.check(_PATIENCE)
        if found and found != self._problem:
            warn(found)
        self._problem = found
        self._frames.results = bool(transport.publishers(f"{self.outputs}/{RESULT[0]}"))
        what = "with results" if self._frames.results else f"no node {self.outputs}"
        return f"{self._name}: {self.shown} frames, {what}".removeprefix(": ")

    def take(self, name: str, kind: str, data: bytes) -> Iterator[View]:
        """What can be shown after a message; raises DroppedFrame when it cannot be read."""
        if name == IMAGE:
            frame = read_image((kind, data), 0)
            return self._complete(self._frames.add(IMAGE, frame.stamp, frame.image))
        content = read_message(data, kind)
        if name == LABEL_INFO:
            self._frames.names(content)
            return iter(())
        return self._complete(self._frames.add(name, nanoseconds(content.header.stamp), content))

    def waiting(self) -> Iterator[View]:
        """What has waited long enough for the rest of its messages."""
        return self._complete(self._frames.ready())

    def report(self, diagnostics: Any) -> None:
        """Takes the latency and the dropped frames in a DiagnosticArray of the node."""
        for status in diagnostics.status:
            if status.name.lstrip("/") == self._status:
                values = {one.key: one.value for one in status.values}
                for name, key in (("p50", "latency p50 (ms)"), ("p99", "latency p99 (ms)")):
                    with suppress(KeyError, ValueError):
                        self._latency[name] = float(values[key])
                for name, key in (("replaced", "dropped for newer ones"), ("unusable", "failed")):
                    with suppress(KeyError, ValueError):
                        self._drops[name] = int(values[key])

    def _complete(self, views: Iterator[View]) -> Iterator[View]:
        for view in views:
            self.shown += 1
            yield replace(view, camera=self._name, drops=dict(self._drops), latency=dict(self._latency))


def _show(transport: Transport, cameras: dict[str, _Camera], viewer: Viewer, signals: Signals) -> Counter[str]:
    """Number of frames that could not be shown, by reason."""
    queue: Queue[tuple[str, str, str, bytes]] = Queue(_QUEUED)
    lost: Counter[str] = Counter()

    def put(camera: str, name: str, kind: str, data: bytes) -> None:
        try:
            queue.put_nowait((camera, name, kind, bytes(data)))
        except Full:
            lost["messages arrive faster than they can be shown"] += 1

    checked = 0.0
    with ExitStack() as opened:
        for camera in cameras.values():
            camera.subscribe(transport, put, opened)
        callback = partial(put, "", DIAGNOSTICS, DIAGNOSTICS_TYPE)
        opened.callback(transport.subscribe(DIAGNOSTICS, DIAGNOSTICS_TYPE, QosProfile(), callback).close)
        tick = opened.enter_context(ticker())
        while viewer.open and not signals.wait(0):
            if monotonic() - checked > 1.0:
                checked = monotonic()
                tick("  ".join([one.check(transport) for one in cameras.values()]))
            try:
                for view in _next(cameras, queue):
                    viewer.show(view)
            except DroppedFrame as error:
                lost[str(error)] += 1
    return lost


def _next(cameras: dict[str, _Camera], queue: Queue[tuple[str, str, str, bytes]]) -> Iterator[View]:
    """What can be shown after the next message, or after a while without one."""
    try:
        camera, name, kind, data = queue.get(timeout=0.1)
    except Empty:
        for one in cameras.values():
            yield from one.waiting()
        return
    if name != DIAGNOSTICS:
        yield from cameras[camera].take(name, kind, data)
        return
    content = read_message(data, kind)
    for one in cameras.values():
        one.report(content)
