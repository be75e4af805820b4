"""The worker: takes the newest frame of each camera, runs its pipeline, publishes. Independent of the transport."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from threading import Condition, Event, Thread
from time import monotonic, perf_counter, time_ns
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vps_ros.drawing.overlay import Overlay
from vps_ros.errors import DroppedFrame
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.live.stats import Stats
from vps_ros.messages.panoptic import (
    CAMERA_INFO,
    DEPTH_OUTPUTS,
    LABEL_INFO,
    LIVE_OUTPUTS,
    camera_info,
    label_info,
    output,
)
from vps_ros.online import OnlinePanoptic, SegmentedFrame

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Item = TypeVar("Item")
FAILURES = 10
"""After so many unusable frames in a row the health is an error, and the tracks start afresh."""
_POLL = 0.2
_SILENCE = 1.0
"""Seconds without a frame of a camera after which its last clip, which is incomplete, is processed."""
_GRACE = 0.4
"""Share of the time for stopping in which the current frame may still be finished."""


class Sink(Protocol):
    """Receives the output messages of one camera, LABEL_INFO first; called only in the worker's thread."""

    def wants(self, output: str) -> bool:
        """Whether an output (LIVE_OUTPUTS, DEPTH_OUTPUTS or CAMERA_INFO) has a subscriber; others are not computed."""
        ...

    def publish(self, output: str, message: Any) -> None:
        """Sends a message, or drops it; must not wait for subscribers. Late subscribers get LABEL_INFO too."""
        ...


class LatestFrames(Generic[Item]):
    """Where frames wait for the worker, one of each camera: a newer one replaces an older one, so that no queue grows.

    Cameras are served in turn: a fast camera cannot starve the others. Any thread may call.
    """

    def __init__(self, cameras: int) -> None:
        self._items: list[Item | None] = [None] * cameras
        self._next = 0
        self._awake = False
        self._changed = Condition()

    def put(self, camera: int, item: Item) -> bool:
        """Stores an item; whether another one was dropped for it."""
        with self._changed:
            replaced = self._items[camera] is not None
            self._items[camera] = item
            self._changed.notify()
        return replaced

    def take(self, timeout: float) -> tuple[int, Item] | None:
        """Camera and item; None after `timeout` seconds without an item, or after `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self._awake or any(item is not None for item in self._items), timeout)
            if self._awake:
                self._awake = False
                return None
            for step in range(len(self._items)):
                camera = (self._next + step) % len(self._items)
                item = self._items[camera]
                if item is not None:
                    self._items[camera] = None
                    self._next = camera + 1
                    return camera, item
        return None

    def wake(self) -> None:
        """Ends the current `take`, or the next one."""
        with self._changed:
            self._awake = True
            self._changed.notify()


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        name: "" for a single camera.
        pipeline: with a tracker of its own. Pipelines may share a segmenter that keeps no state.
        read: decodes a message that arrived at a time (ns) to a Frame; raises DroppedFrame.
        sink: receives the outputs.
        locate: adds `objects_3d` to a result, or raises DroppedFrame; None without depth.
        info: the camera's latest CameraInfo; None while there is none.
        show: gets each frame and its result after its messages are sent; must return at once.
    """

    name: str
    pipeline: OnlinePanoptic
    read: Callable[[Any, int], Frame]
    sink: Sink
    info: Callable[[], Any] = lambda: None
    locate: Callable[[PanopticFrame], PanopticFrame] | None = None
    show: Callable[[Frame, PanopticFrame], None] | None = None


@dataclass(frozen=True)
class Arrival:
    """A message, its time of arrival on the node's clock (ns), and on perf_counter (s)."""

    message: Any
    received: int
    at: float


class Worker:
    """Processes the frames of one camera, or of several that share a model, in a thread of its own.

    A subscription calls `offer`, which returns at once. The failure of a frame is logged once per cause and counted,
    and the next frame is processed. A worker runs once; make another one to run again, with the same pipelines if
    `stop` returned true.

    Args:
        buffer: where frames wait; default LatestFrames.
        clock: time of arrival of a message (ns).
        batch: run the network once for the waiting frames of all cameras; their pipelines share a segmenter that
            can do so (OnlinePanoptic.batched).

    Attributes:
        stats: of each camera.
        enabled: while false, frames are counted and discarded.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        buffer: LatestFrames[Arrival] | None = None,
        clock: Callable[[], int] = time_ns,
        batch: bool = False,
    ) -> None:
        self.cameras = tuple(cameras)
        self.stats = tuple(Stats() for _ in self.cameras)
        self.enabled = True
        self._buffer: LatestFrames[Arrival] = buffer or LatestFrames(len(self.cameras))
        self._clock = clock
        self._batch = len(self.cameras) if batch else 1
        self._jobs: deque[tuple[Callable[[], Any], Future]] = deque()
        self._overlays = [Overlay(camera.pipeline.taxonomy, trails=True, legend=True) for camera in self.cameras]
        # Frame and time of arrival (perf_counter) of those whose results are not published.
        self._pending: list[list[tuple[Frame, float]]] = [[] for _ in self.cameras]
        self._stopping = Event()
        self._ended = Event()
        self._aborting = Event()
        self._busy_since: float | None = None
        # A daemon thread that hangs in native code cannot keep the process from ending. The context tells whose log
        # messages are the thread's.
        self._thread = Thread(target=copy_context().run, args=(self._run,), name="vps-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether offered frames will be processed."""
        return self._thread.is_alive() and not self._stopping.is_set()

    @property
    def busy(self) -> float:
        """Seconds spent on the current frame so far; 0 while waiting for one."""
        since = self._busy_since
        return monotonic() - since if since is not None else 0.0

    def offer(self, camera: int, message: Any) -> None:
        """A message that has just arrived from a camera, given by its index in `cameras`; any thread may call."""
        stats = self.stats[camera]
        stats.arrived()
        if (
            self.enabled
            and not self._stopping.is_set()
            and self._buffer.put(camera, Arrival(message, self._clock(), perf_counter()))
        ):
            stats.dropped()

    def call(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Runs `work` in the worker's thread between two frames, where pipelines may be changed.

        The future is cancelled if the worker has stopped or failed.
        """
        future: Future[Answer] = Future()
        self._jobs.append((work, future))
        self._buffer.wake()
        if self._stopping.is_set() or self._ended.is_set():
            self._cancel_jobs()
        return future

    def reset_tracks(self) -> Future[None]:
        """Forgets every object of every camera before the next frame."""
        return self.call(self._reset)

    def stop(self, timeout: float = 1.0) -> bool:
        """Ends the thread within `timeout` seconds, also during a slow network run; whether it has ended.

        It has not ended when a single layer of a network takes longer: ONNX Runtime cannot be interrupted there. The
        thread then publishes nothing any more and ends with the process.
        """
        self._stopping.set()
        self._buffer.wake()
        end = monotonic() + timeout
        if self._thread.ident is not None:
            self._thread.join(timeout * _GRACE)
            self._aborting.set()
            while self._thread.is_alive() and monotonic() < end:
                # Repeated, because the call to interrupt may not have begun yet.
                for camera in self.cameras:
                    camera.pipeline.interrupt()
                self._thread.join(0.02)
        self._cancel_jobs()
        if self._thread.is_alive():
            log.error("the worker did not stop within %g s: one layer of the network takes longer", timeout)
            return False
        return True

    def _run(self) -> None:
        try:
            for camera in self.cameras:
                labels = label_info(self._clock(), "", camera.pipeline.taxonomy)
                camera.sink.publish(LABEL_INFO, labels)
            while not self._stopping.is_set():
                self._do_jobs()
                taken = self._buffer.take(_POLL)
                if taken is not None:
                    self._busy_since = monotonic()
                    self._process(self._with_waiting(taken))
                    self._busy_since = None
                self._end_clips(_SILENCE)
            self._end_clips()
        # Without this a thread ends silently, and the process would seem to work.
        except BaseException:
            log.critical("the worker failed; nothing is published any more", exc_info=True)
        finally:
            self._ended.set()
            self._cancel_jobs()

    def _with_waiting(self, first: tuple[int, Arrival]) -> list[tuple[int, Arrival]]:
        """The first frame, and in batch mode those that wait behind it."""
        found = [first]
        while len(found) < self._batch and (taken := self._buffer.take(0)) is not None:
            found.append(taken)
        return found

    def _process(self, arrivals: Sequence[tuple[int, Arrival]]) -> None:
        frames: list[tuple[int, Arrival, Frame]] = []
        for index, arrival in arrivals:
            with self._failures(index):
                frames.append((index, arrival, self.cameras[index].read(arrival.message, arrival.received)))
        if len(frames) > 1:
            with self._failures(frames[0][0]):
                self.cameras[0].pipeline.run_ahead([frame.image for *_, frame in frames])
        for index, arrival, frame in frames:
            self._pending[index].append((frame, arrival.at))
            self._step(index, frame)

    def _step(self, index: int, frame: Frame | None) -> None:
        """Adds a frame to the pipeline of a camera, or ends its clip (None), and publishes the results."""
        pipeline, pending = self.cameras[index].pipeline, self._pending[index]
        ready: list[SegmentedFrame | DroppedFrame] = []
        with self._failures(index):
            ready = pipeline.segment_ready(frame)
        for found in ready:
            with self._failures(index):
                if isinstance(found, DroppedFrame):
                    raise found
                result = pipeline.track(found)
                result = self._publish(index, found.frame, result)
                arrived = next(at for frame, at in pending if frame is found.frame)
                self.stats[index].done((perf_counter() - arrived) * 1e3, result)
                if show := self.cameras[index].show:
                    show(found.frame, result)
        waiting = pipeline.waiting
        self._pending[index] = [one for one in pending if any(one[0] is frame for frame in waiting)]

    def _end_clips(self, silence: float = 0.0) -> None:
        """Processes the incomplete clips of cameras without a frame for `silence` seconds."""
        for index, pending in enumerate(self._pending):
            if pending and perf_counter() - pending[-1][1] >= silence:
                self._step(index, None)

    @contextmanager
    def _failures(self, index: int) -> Iterator[None]:
        """Logs and counts the failure of a frame of a camera."""
        camera, stats = self.cameras[index], self.stats[index]
        before = stats.in_a_row
        try:
            yield
        except DroppedFrame as reason:
            if stats.failed(str(reason)):
                log.warning("%sframe skipped: %s (logged once; further ones are counted)", _prefix(camera), reason)
        except Exception as error:
            if self._aborting.is_set():
                return
            what = f"{type(error).__name__}: {error}"
            if stats.failed(what):
                log.exception("%sframe failed: %s (logged once; further ones are counted)", _prefix(camera), what)
        # `==`: once for each series of failures.
        if stats.in_a_row == FAILURES and before < FAILURES:
            log.error("%s%d frames in a row could not be used; tracks start afresh", _prefix(camera), FAILURES)
            camera.pipeline.reset()

    def _publish(self, index: int, frame: Frame, result: PanopticFrame) -> PanopticFrame:
        """Sends the messages of a frame; returns the result, with objects in 3D where they are needed and possible."""
        camera, overlay = self.cameras[index], self._overlays[index]
        taxonomy = camera.pipeline.taxonomy

        @cache
        def draw() -> NDArray[np.uint8]:
            return overlay(frame.image, result)

        def publish(name: str, message: Any = None) -> None:
            if not self._aborting.is_set():
                made = output(name, result, taxonomy, draw, frame.image) if message is None else message
                camera.sink.publish(name, made)

        if camera.sink.wants(CAMERA_INFO) and (info := camera.info()) is not None:
            publish(CAMERA_INFO, camera_info(result, info))
        for name in LIVE_OUTPUTS:
            if camera.sink.wants(name):
                publish(name)
        # After the others, because the depth image may come later than the frame.
        wanted = [name for name in DEPTH_OUTPUTS if camera.sink.wants(name)]
        if camera.locate is not None and (wanted or camera.show):
            result = self._located(index, camera.locate, result)
            for name in wanted if result.objects_3d else ():
                publish(name)
        return result

    def _located(
        self, index: int, locate: Callable[[PanopticFrame], PanopticFrame], result: PanopticFrame
    ) -> PanopticFrame:
        """The result with objects in 3D; without, which is logged once per cause and counted, if that is impossible."""
        camera, stats = self.cameras[index], self.stats[index]
        try:
            found = locate(result)
        except DroppedFrame as reason:
            if stats.depth_failed(str(reason)):
                log.warning("%sno objects in 3D: %s (logged once; 2D continues)", _prefix(camera), reason)
            return result
        assert found.objects_3d is not None
        stats.located(len(found.objects_3d.objects), found.objects_3d.without_depth)
        return found

    def _reset(self) -> None:
        self._end_clips()
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
        # No test beforehand: another thread that stops the worker may remove the job in between.
        except IndexError:
            return None


def _prefix(camera: Camera) -> str:
    return f"{camera.name}: " if camera.name else ""
