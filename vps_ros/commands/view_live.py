"""`vps-ros view --live`: the images of a camera, with the results that a node publishes for them, over DDS."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, Full, Queue
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.commands.console import log_to_stderr, note, ticker, warn
from vps_ros.commands.dds import join
from vps_ros.commands.viewing import announce, finish
from vps_ros.drawing.viewer import Target, Viewer
from vps_ros.drawing.views import View
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.files import write_json
from vps_ros.live.camera import CameraSubscription, read_image
from vps_ros.live.signals import Signals
from vps_ros.live.transport import QosProfile, Transport, absolute
from vps_ros.messages.panoptic import LABEL_INFO, LABEL_INFO_TYPE, OUTPUTS, read_panoptic
from vps_ros.messages.typestore import nanoseconds, read_message
from vps_ros.recording.label_classes import ClassNames, common_taxonomy
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
        self._shown = 0

    def names(self, label_info: Any) -> None:
        """Takes the names of the classes."""
        self._names |= {one.class_id: one.class_name for one in label_info.class_map}

    def add(self, name: str, stamp: int, content: Any) -> Iterator[View]:
        """Takes an image (`IMAGE`), or a message of RESULT; yields what can be shown now, in the order of stamps.

        Raises DroppedFrame for messages that do not fit each other.
        """
        if stamp <= self._shown and self._shown - stamp < 60 * 10**9:
            return
        if stamp <= self._shown:
            # Time went back: a recording started again.
            self._waiting.clear()
            self._shown = 0
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
            names = ClassNames("the node", described.taxonomy, dict(self._names), dict(self._things))
            self._taxonomy = known, common_taxonomy(names, names)
        return replace(frame, taxonomy=self._taxonomy[1])


def _complete(parts: Parts) -> bool:
    return parts.image is not None and len(parts.messages) == len(RESULT)


def view_topics(args: argparse.Namespace, target: Target) -> int:
    """Shows the topics until Ctrl-C, or until the viewer is closed."""
    if args.gt:
        raise InputError("--gt: live topics have no ground truth; record them and view the recording")
    topic, node = absolute(args.live), absolute(args.name)
    with log_to_stderr(), Signals() as signals, join(args) as participant:
        from vps_ros.live.dds_transport import DdsTransport

        transport = DdsTransport(participant, f"{args.name}_view")
        with Viewer(target, timing=False, name=topic) as viewer:
            announce(viewer)
            note(f"domain {participant.domain}: {topic} with {node}/panoptic; Ctrl-C ends")
            lost = _show(transport, topic, node, viewer, signals)
            finish(viewer)
            for reason, count in lost.items():
                warn(f"{count} frame(s) skipped: {reason}")
            if args.json:
                write_json(args.json, viewer.to_json())
            if args.save:
                note(f"recorded: {args.save}; show it with `vps-ros view {args.save}`")
    return 0


def _show(transport: Transport, topic: str, node: str, viewer: Viewer, signals: Signals) -> Counter[str]:
    """Number of frames that could not be shown, by reason."""
    queue: Queue[tuple[str, str, bytes]] = Queue(_QUEUED)
    lost: Counter[str] = Counter()

    def put(name: str, kind: str, data: bytes) -> None:
        try:
            queue.put_nowait((name, kind, bytes(data)))
        except Full:
            lost["messages arrive faster than they can be shown"] += 1

    images = CameraSubscription(transport, topic, QosProfile("best_effort", 1), lambda one: put(IMAGE, *one))
    kinds = {name: OUTPUTS[name] for name in RESULT}
    kinds[LABEL_INFO] = LABEL_INFO_TYPE
    results = []
    for name, kind in kinds.items():
        qos = QosProfile(depth=1, latched=True) if name == LABEL_INFO else QosProfile()
        results.append(transport.subscribe(f"{node}/{name}", kind, qos, partial(put, name, kind)))
    frames, shown, checked, problem = LiveFrames(), 0, 0.0, ""
    try:
        with ticker() as tick:
            while viewer.open and not signals.wait(0):
                if monotonic() - checked > 1.0:
                    checked = monotonic()
                    found = images.check(_PATIENCE)
                    if found and found != problem:
                        warn(found)
                    problem = found
                    frames.results = bool(transport.publishers(f"{node}/{RESULT[0]}"))
                    what = "with results" if frames.results else f"no node {node}"
                    tick(f"{shown} frames, {what}")
                try:
                    ready = list(_read(frames, *queue.get(timeout=0.1)))
                except Empty:
                    ready = list(frames.ready())
                except DroppedFrame as error:
                    lost[str(error)] += 1
                    continue
                for view in ready:
                    viewer.show(view)
                    shown += 1
    finally:
        images.close()
        for one in results:
            one.close()
    return lost


def _read(frames: LiveFrames, name: str, kind: str, data: bytes) -> Iterator[View]:
    if name == IMAGE:
        frame = read_image((kind, data), 0)
        yield from frames.add(IMAGE, frame.stamp, frame.image)
        return
    content = read_message(data, kind)
    if name == LABEL_INFO:
        frames.names(content)
    else:
        yield from frames.add(name, nanoseconds(content.header.stamp), content)
