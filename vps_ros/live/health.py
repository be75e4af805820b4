"""The health of each camera: from the worker's statistics to diagnostics and to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic
from typing import Any

from vps_ros.live.stats import Figures, cause_of
from vps_ros.live.worker import FAILURES, Camera, Worker
from vps_ros.messages.typestore import make_header, make_message

log = logging.getLogger(__name__)

TOPIC, TYPE = "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"


class Level(IntEnum):
    """Values of DiagnosticStatus.level."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Status:
    """One DiagnosticStatus.

    Attributes:
        name: "node: camera".
        message: one line.
        values: names and values for display.
        hardware_id: name of the model.
    """

    name: str
    level: Level
    message: str
    values: tuple[tuple[str, str], ...] = ()
    hardware_id: str = ""


def status_name(node: str, camera: str) -> str:
    """The status name of a camera of a node."""
    return f"{node}: {camera or 'pipeline'}"


def health(
    worker: Worker, patience: float, node: str = "vps", problems: Sequence[str] | None = None
) -> tuple[Status, ...]:
    """The health of each camera. Call it from another thread than the worker's: a worker that hangs cannot report it.

    Args:
        patience: seconds without an image, or spent on one frame, from which on the status says so.
        problems: what the transport found wrong with each camera; "" for nothing.
    """
    rows = zip(worker.cameras, worker.stats, problems or [""] * len(worker.cameras), strict=True)
    return tuple(
        _camera_status(worker, camera, stats.figures(), patience, node, problem) for camera, stats, problem in rows
    )


def diagnostic_array(stamp: int, statuses: Sequence[Status]) -> Any:
    """DiagnosticArray of a time (ns)."""
    rows = [
        make_message(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=int(s.level),
            name=s.name,
            message=s.message,
            hardware_id=s.hardware_id,
            values=[make_message("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in s.values],
        )
        for s in statuses
    ]
    return make_message(TYPE, header=make_header(stamp, ""), status=rows)


class StatusLog:
    """Logs each problem of a camera when it appears, and its end; once, also where the numbers in its message change.

    A problem that appears again within a minute is not logged again: diagnostics show the current state.
    """

    _FORGET = 60.0

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str], float] = {}
        self._bad: set[str] = set()

    def update(self, statuses: Mapping[str, Status]) -> None:
        """Takes the current status of each camera, by its name."""
        now = self._clock()
        self._seen = {problem: at for problem, at in self._seen.items() if now - at < self._FORGET}
        for camera, status in statuses.items():
            text = f"{camera}: {status.message}" if camera else status.message
            if status.level == Level.OK:
                if camera in self._bad:
                    self._bad.remove(camera)
                    log.info("back to normal: %s", text)
                continue
            problem = (camera, cause_of(status.message))
            if problem not in self._seen:
                self._bad.add(camera)
                log.log(logging.ERROR if status.level == Level.ERROR else logging.WARNING, "%s", text)
            self._seen[problem] = now


def _camera_status(worker: Worker, camera: Camera, now: Figures, patience: float, node: str, problem: str) -> Status:
    level, message = _level(worker, now, patience)
    if problem and level < Level.ERROR:
        level, message = Level.WARN, problem
    segmenter = camera.pipeline.segmenter
    values = {
        "rate (frames/s)": f"{now.rate:.1f}",
        "latency p50 (ms)": _shown(now.p50),
        "latency p99 (ms)": _shown(now.p99),
        "received": now.received,
        "frames": now.frames,
        "dropped for newer ones": now.dropped,
        "failed": now.failed,
        "objects known": now.objects,
        "tracks so far": now.tracks,
        "sequence": now.sequence_id,
        "model": segmenter.name,
        "providers": ", ".join(segmenter.providers),
        "tracker": camera.pipeline.config.tracker,
        **({"clip": camera.pipeline.clip} if camera.pipeline.clip.length > 1 else {}),
        **{f"failure: {message}": count for message, count in now.failures.items()},
        **({"frames with objects in 3D": now.frames_3d} if camera.locate else {}),
        **({"objects without depth": now.objects_without_depth} if camera.locate else {}),
        **{f"no objects in 3D: {message}": count for message, count in now.depth_failures.items()},
    }
    shown = tuple((key, str(value)) for key, value in values.items())
    return Status(status_name(node, camera.name), level, message, shown, segmenter.name)


def _level(worker: Worker, now: Figures, patience: float) -> tuple[Level, str]:
    if not worker.alive:
        return Level.ERROR, "the worker is not running"
    if worker.busy > patience:
        return Level.ERROR, f"stuck at one frame for {worker.busy:.0f} s"
    if now.in_a_row >= FAILURES:
        return Level.ERROR, f"{now.in_a_row} frames in a row could not be used"
    if not worker.enabled:
        return Level.OK, "disabled"
    if now.silent > patience:
        return Level.WARN, f"no image for {now.silent:.0f} s"
    if now.in_a_row:
        return Level.WARN, f"{now.in_a_row} frame(s) in a row could not be used"
    if not now.frames:
        return Level.OK, "waiting for the first image"
    if now.depth_problem:
        return Level.WARN, f"no objects in 3D: {now.depth_problem}"
    return Level.OK, f"{now.rate:.1f} frames/s"


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f}"
