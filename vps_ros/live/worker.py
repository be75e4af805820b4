"""The one worker: takes the newest frame of each camera, steps its pipeline, publishes. No transport, no queue."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Event, Thread
from time import monotonic, perf_counter, time_ns
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vps_ros.drawing.overlay import Overlay
from vps_ros.errors import DroppedFrame
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.live.sink import Sink
from vps_ros.live.slots import Slots, Waiting
from vps_ros.live.stats import Stats
from vps_ros.messages.outputs import LABEL_INFO, OUTPUTS, output
from vps_ros.online import OnlinePanoptic

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
FAILURES = 10
"""So many frames in a row that could not be used are an error, and the tracks start afresh."""
_BEAT = 0.2
_GRACE = 0.4
"""Share of the time for stopping in which the frame under way may still be finished."""


@dataclass(frozen=True)
class Camera:
    """One camera and what is its own.

    Attributes:
        name: of the camera; "" where there is only one.
        pipeline: with a tracker of its own. Pipelines may share a segmenter that keeps no state.
        read: a message that the subscription got, and when (ns), to a Frame; raises DroppedFrame.
        sink: where its outputs go.
    """

    name: str
    pipeline: OnlinePanoptic
    read: Callable[[Any, int], Frame]
    sink: Sink


@dataclass(frozen=True)
class Arrival:
    """A message as it came in: nanoseconds of the system's clock, and seconds of perf_counter."""

    message: Any
    received: int
    at: float


class Worker:
    """Works for one camera or for several that share a model, in one thread of its own.

    A subscription calls `offer`, which takes no time. Whatever happens to one frame is logged once per cause, counted
    and survived. A worker runs once; make another one to run again, with the same pipelines if `stop` was true.

    Args:
        cameras: each with its own pipeline and sink.
        waiting: where frames wait; the newest of each camera, unless a measurement wants something else.

    Attributes:
        stats: of each camera.
        enabled: while false, frames are taken no notice of.
    """

    def __init__(self, cameras: Sequence[Camera], waiting: Waiting[Arrival] | None = None) -> None:
        self.cameras = tuple(cameras)
        self.stats = tuple(Stats() for _ in self.cameras)
        self.enabled = True
        self._waiting: Waiting[Arrival] = waiting or Slots(len(self.cameras))
        self._jobs: deque[tuple[Callable[[], Any], Future]] = deque()
        self._overlays = [Overlay(camera.pipeline.taxonomy) for camera in self.cameras]
        self._labelled = [False] * len(self.cameras)
        self._stopping = Event()
        self._ended = Event()
        self._hurry = Event()
        self._busy_since: float | None = None
        # As a daemon, a thread that hangs in native code cannot keep the process from ending.
        self._thread = Thread(target=self._run, name="vps-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether frames that are offered will be looked at."""
        return self._thread.is_alive() and not self._stopping.is_set()

    @property
    def busy(self) -> float:
        """Seconds that it has been at the same frame; 0 while it waits for one."""
        since = self._busy_since
        return monotonic() - since if since is not None else 0.0

    def offer(self, camera: int, message: Any) -> None:
        """A message of a camera, by its place in `cameras`, just now come in; from any thread."""
        stats = self.stats[camera]
        stats.arrived()
        if self.enabled and not self._stopping.is_set() and self._waiting.put(camera, _now(message)):
            stats.dropped()

    def call(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Does `work` in the worker's thread between two frames, where pipelines may be changed.

        Cancelled by a worker that has stopped or died.
        """
        future: Future[Answer] = Future()
        self._jobs.append((work, future))
        self._waiting.wake()
        if self._stopping.is_set() or self._ended.is_set():
            self._cancel_jobs()
        return future

    def reset_tracks(self) -> Future[None]:
        """Forgets every object of every camera before the next frame."""
        return self.call(self._reset)

    def stop(self, timeout: float = 1.0) -> bool:
        """Ends the thread within `timeout` seconds, also from the middle of a slow network; whether it has ended.

        It has not when native code runs that nothing can interrupt: a single layer of a network that takes so long.
        The thread then dies with the process, and publishes nothing any more.
        """
        self._stopping.set()
        self._waiting.wake()
        end = monotonic() + timeout
        if self._thread.ident is not None:
            self._thread.join(timeout * _GRACE)
            self._hurry.set()
            while self._thread.is_alive() and monotonic() < end:
                # Again and again: the call that is to be interrupted may only be about to begin.
                for camera in self.cameras:
                    camera.pipeline.interrupt()
                self._thread.join(0.02)
        self._cancel_jobs()
        if self._thread.is_alive():
            log.error("the worker did not stop within %g s: the network hangs in a layer of its own", timeout)
            return False
        return True

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._do_jobs()
                taken = self._waiting.take(_BEAT)
                if taken is not None:
                    self._busy_since = monotonic()
                    self._look_at(*taken)
                    self._busy_since = None
        # Threads end without a word otherwise, and the process would look alive.
        except BaseException:
            log.critical("the worker died; nothing is published any more", exc_info=True)
        finally:
            self._ended.set()
            self._cancel_jobs()

    def _look_at(self, index: int, arrival: Arrival) -> None:
        camera, stats = self.cameras[index], self.stats[index]
        try:
            frame = camera.read(arrival.message, arrival.received)
            result = camera.pipeline.step(frame)
            self._publish(index, frame, result)
        except DroppedFrame as reason:
            if stats.failed(str(reason)):
                log.warning("%sframe skipped: %s (said once; further ones are counted)", _of(camera), reason)
        except Exception as error:
            if self._hurry.is_set():
                return
            what = f"{type(error).__name__}: {error}"
            if stats.failed(what):
                log.exception("%sframe failed: %s (said once; further ones are counted)", _of(camera), what)
        else:
            stats.done((perf_counter() - arrival.at) * 1e3, result)
        # Only once for as long as it lasts: after it there is nothing to forget, and nothing new to say.
        if stats.in_a_row == FAILURES:
            log.error("%s%d frames in a row could not be used; tracks start afresh", _of(camera), FAILURES)
            camera.pipeline.reset()

    def _publish(self, index: int, frame: Frame, result: PanopticFrame) -> None:
        camera, overlay = self.cameras[index], self._overlays[index]
        taxonomy = camera.pipeline.taxonomy

        def draw() -> NDArray[np.uint8]:
            return overlay(frame.image, result)

        def publish(name: str) -> None:
            if not self._hurry.is_set():
                camera.sink.publish(name, output(name, result, taxonomy, camera.sink.messages, draw))

        if not self._labelled[index]:
            publish(LABEL_INFO)
            self._labelled[index] = True
        for name in OUTPUTS:
            if camera.sink.wants(name):
                publish(name)

    def _reset(self) -> None:
        for camera in self.cameras:
            camera.pipeline.reset()

    def _do_jobs(self) -> None:
        while job := self._next_job():
            work, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

    def _cancel_jobs(self) -> None:
        while job := self._next_job():
            job[1].cancel()

    def _next_job(self) -> tuple[Callable[[], Any], Future] | None:
        try:
            return self._jobs.popleft()
        # Asking first whether there is one would be too early: who stops the worker takes jobs away as well.
        except IndexError:
            return None


def _now(message: Any) -> Arrival:
    return Arrival(message, time_ns(), perf_counter())


def _of(camera: Camera) -> str:
    return f"{camera.name}: " if camera.name else ""
