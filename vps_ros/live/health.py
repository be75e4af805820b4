"""From a worker's figures to what a diagnostics page shows of each camera."""

from __future__ import annotations

from collections.abc import Sequence

from vps_ros.live.stats import Figures
from vps_ros.live.worker import FAILURES, Camera, Worker
from vps_ros.messages.diagnostics import Level, Status


def health(
    worker: Worker, patience: float, node: str = "vps", notes: Sequence[str] | None = None
) -> tuple[Status, ...]:
    """The health of each camera, asked of the worker from another thread than its own, so that no death goes unseen.

    Args:
        patience: seconds without an image, or at one frame, from which on it is said.
        notes: what the transport knows to be wrong with each camera; "" for nothing.
    """
    rows = zip(worker.cameras, worker.stats, notes or [""] * len(worker.cameras), strict=True)
    return tuple(_of_camera(worker, camera, stats.figures(), patience, node, note) for camera, stats, note in rows)


def _of_camera(worker: Worker, camera: Camera, now: Figures, patience: float, node: str, note: str) -> Status:
    level, message = _judge(worker, now, patience)
    if note and level < Level.ERROR:
        level, message = Level.WARN, note
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
        **{f"failure: {what}": count for what, count in now.failures.items()},
    }
    name = f"{node}: {camera.name or 'pipeline'}"
    return Status(name, level, message, tuple((key, str(value)) for key, value in values.items()), segmenter.name)


def _judge(worker: Worker, now: Figures, patience: float) -> tuple[Level, str]:
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
    return Level.OK, f"{now.rate:.1f} frames/s"


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f}"
