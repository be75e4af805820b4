"""The viewer: shows frames in a window, in a browser or as a recording, without slowing down who makes them.

It is the viewer of Rerun (package rerun-sdk, extra `view`), which runs as a process of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Condition, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from vps_ros.drawing.viewer_process import (
    ViewerProcess,
    check_answer,
    check_recording,
    load_rerun,
    start_web_viewer,
    start_window,
)
from vps_ros.drawing.views import View
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_folder

if TYPE_CHECKING:
    from rerun import RecordingStream

QUEUED = 8
"""Frames that wait for a viewer at most; it holds their images."""
_SHAPE = (720, 1280)
"""Height and width of the images of a camera until the first one comes."""
_FLUSH_SECONDS = 0.5
_CLOSE_SECONDS = 10.0
"""Time in which the frames that wait at the end are still sent."""


@dataclass(frozen=True)
class Target:
    """Where frames are shown; several are possible at the same time.

    Attributes:
        window: open the native viewer.
        web: serve the web viewer on this machine's loopback address.
        save: path of a recording (.rrd).
        connect: URL of a viewer that runs already, rerun+http://HOST:PORT/proxy.
        port: of the web viewer, whose data come from the next port; 0 chooses free ones.
        force: replace a recording that exists.
    """

    window: bool = False
    web: bool = False
    save: str | None = None
    connect: str | None = None
    port: int = 0
    force: bool = False

    def __bool__(self) -> bool:
        return bool(self.window or self.web or self.save or self.connect)


class Viewer:
    """Shows frames. A context manager; at its end, the frames that wait are sent, for a limited time.

    Each place of the target has a thread and a bounded queue. The oldest frame in a full queue is dropped and counted.
    A viewer that is closed or fails is reported; frames for it are counted as dropped then.

    Args:
        target: where.
        cameras: their names; "" for a single one.
        truth: leave space for ground truth and errors.
        timing: leave space for latency and dropped frames.
        depth: leave space for objects in 3D.
        name: of the recording, shown by the viewer.
        wait: `show` waits for the viewer and drops nothing; for commands that have nothing else to do.

    Attributes:
        url: of the web viewer; "" without.

    Raises InputError on entry: rerun-sdk is missing, there is no display, the port is in use, the recording exists, no
    viewer answers, or it cannot be started.
    """

    def __init__(
        self,
        target: Target,
        cameras: Sequence[str] = ("",),
        truth: bool = False,
        timing: bool = True,
        depth: bool = False,
        name: str = "",
        wait: bool = False,
    ) -> None:
        self.url = ""
        self._target, self._cameras, self._name, self._wait = target, tuple(cameras), name, wait
        self._truth, self._timing, self._depth = truth, timing, depth
        self._channels: dict[str, _Channel] = {}
        self._web: ViewerProcess | None = None
        self._file = ExitStack()

    def __enter__(self) -> Viewer:
        load_rerun()
        with ExitStack() as opening:
            if self._target.save:
                path = refuse_folder(self._target.save, self._target.force)
                opening.push(self._file)
                draft = self._file.enter_context(atomic_write(path, self._target.force))
                self._add("file", self._recording(), file=draft)
            if self._target.web:
                self._web = start_web_viewer(self._target.port)
                opening.callback(self._web.end)
                self.url = self._web.page
                self._add("web", self._recording(), process=self._web)
            if self._target.window:
                self._add("window", self._recording(), process=start_window())
            if self._target.connect:
                check_answer(self._target.connect)
                self._add("connect", self._recording(), url=self._target.connect)
            self._exits = opening.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self.finish()
            else:
                self._close_channels(0.0)
        finally:
            self._exits.__exit__(*error)

    def finish(self) -> None:
        """Sends the frames that wait, for a limited time, and completes the recording. A web viewer stays open.

        No frame can follow.
        """
        self._close_channels(_CLOSE_SECONDS)
        self._file.close()

    def _close_channels(self, seconds: float) -> None:
        for channel in self._channels.values():
            channel.close(seconds)

    def show(self, view: View) -> None:
        """Takes a frame; returns at once, except with `wait`."""
        for channel in self._channels.values():
            channel.put(view)

    @property
    def open(self) -> bool:
        """Whether any place still takes frames."""
        return any(not channel.problem for channel in self._channels.values())

    def wait_until_closed(self) -> None:
        """Serves the web viewer until its process ends; interrupt it with Ctrl-C. Returns at once without `web`."""
        if self._web is not None:
            self._web.process.wait()

    def to_json(self) -> dict[str, dict[str, Any]]:
        """For each of "file", "web", "window" and "connect" that is used: `shown`, `dropped`, and `problem` or null."""
        return {name: channel.to_json() for name, channel in self._channels.items()}

    def losses(self) -> list[str]:
        """A line for each place where frames were dropped or that failed."""
        lines = []
        for name, channel in self._channels.items():
            if channel.problem:
                lines.append(f"viewer ({name}): {channel.problem}; {channel.dropped} frame(s) are not shown")
            elif channel.dropped:
                lines.append(
                    f"viewer ({name}): {channel.dropped} of {channel.dropped + channel.shown} frames are not shown, "
                    "because it is slower than the pipeline"
                )
        return lines

    def _recording(self) -> RecordingStream:
        import rerun as rr

        from vps_ros.drawing.rerun_log import APPLICATION

        recording = rr.RecordingStream(APPLICATION)
        if self._name:
            recording.send_recording_name(self._name)
        return recording

    def _add(self, name: str, recording: RecordingStream, **where: Any) -> None:
        from vps_ros.drawing.rerun_log import CameraLog, blueprint

        logs = {camera: CameraLog(recording, camera) for camera in self._cameras}
        layout = partial(blueprint, truth=self._truth, timing=self._timing, depth=self._depth)
        self._channels[name] = _Channel(recording, logs, layout, self._wait, **where)


class _Channel:
    """One recording of Rerun with the queue and the thread that fill it."""

    def __init__(
        self,
        recording: RecordingStream,
        logs: dict[str, Any],
        layout: Callable[[Mapping[str, Sequence[int]]], Any],
        wait: bool,
        file: Path | None = None,
        url: str | None = None,
        process: ViewerProcess | None = None,
    ) -> None:
        self.shown = self.dropped = 0
        self.problem = ""
        self._recording, self._logs, self._wait, self._process = recording, logs, wait, process
        self._layout, self._shapes = layout, dict[str, Sequence[int]](dict.fromkeys(logs, _SHAPE))
        self._seen: set[str] = set()
        if file is not None:
            recording.save(file, default_blueprint=layout(self._shapes))
        else:
            recording.connect_grpc(url or (process and process.url), default_blueprint=layout(self._shapes))
        self._to_file = file is not None
        self._views: deque[View] = deque()
        self._changed = Condition()
        self._closing = False
        self._deadline = float("inf")
        self._thread = Thread(target=self._run, name="vps-viewer", daemon=True)
        self._thread.start()

    def put(self, view: View) -> None:
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: len(self._views) < QUEUED or self.problem)
            if self.problem:
                self.dropped += 1
                return
            if len(self._views) >= QUEUED:
                self._views.popleft()
                self.dropped += 1
            self._views.append(view)
            self._changed.notify_all()

    def close(self, seconds: float) -> None:
        """Sends what waits, for so many seconds at most."""
        with self._changed:
            self._closing, self._deadline = True, monotonic() + seconds
            self._changed.notify_all()
        self._thread.join(seconds + 2 * _FLUSH_SECONDS)
        with self._changed:
            self.dropped += len(self._views)
            self._views.clear()

    def to_json(self) -> dict[str, Any]:
        return {"shown": self.shown, "dropped": self.dropped, "problem": self.problem or None}

    def _run(self) -> None:
        try:
            while (view := self._take()) is not None:
                self._arrange(view)
                self._logs[view.camera].log(view)
                if not self._sent():
                    self.dropped += not self.problem
                    break
                self.shown += 1
        # Whatever fails here must not end the pipeline.
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}".splitlines()[0])
        # Waits for the last messages; a viewer that does not take them must not keep the process.
        with suppress(Exception):
            self._recording.flush(timeout_sec=max(min(self._deadline - monotonic(), _CLOSE_SECONDS), 0.0))
        if not self.problem or self._to_file:
            self._recording.disconnect()

    def _arrange(self, view: View) -> None:
        """Fits the panels to the images of a camera when its first one comes."""
        if view.camera in self._seen or (shape := view.shape) is None:
            return
        self._seen.add(view.camera)
        self._shapes[view.camera] = shape
        self._recording.send_blueprint(self._layout(self._shapes))

    def _take(self) -> View | None:
        with self._changed:
            self._changed.wait_for(lambda: self._views or self._closing)
            if not self._views or monotonic() > self._deadline:
                return None
            view = self._views.popleft()
            self._changed.notify_all()
            return view

    def _sent(self) -> bool:
        """Waits until the viewer has taken the frame, since Rerun itself keeps any amount of data for it."""
        while not self._to_file:
            if self._process is not None and (ended := self._process.ended()):
                self._fail(ended)
                return False
            try:
                self._recording.flush(timeout_sec=_FLUSH_SECONDS)
                return True
            except RuntimeError as error:
                if self._closing and monotonic() > self._deadline:
                    return False
                if "timed out" not in str(error).lower():
                    # The connection may end a moment before the process.
                    sleep(_FLUSH_SECONDS)
                    ended = self._process.ended() if self._process else ""
                    self._fail(ended or f"the connection is lost ({error})")
                    return False
        return True

    def _fail(self, problem: str) -> None:
        with self._changed:
            self.problem = problem
            self.dropped += len(self._views) + 1
            self._views.clear()
            self._changed.notify_all()


@contextmanager
def open_recording(path: str, target: Target) -> Iterator[ViewerProcess]:
    """Opens a recording of Rerun (.rrd) in a window, or serves it for a browser until the end of the block.

    Raises InputError when there is no such file, it is of another version, or the viewer cannot be started.
    """
    if target.save or target.connect:
        raise InputError(f"{path}: is a recording already; leave --save and --connect out")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    load_rerun()
    check_recording(path)
    if not target.web:
        yield start_window(path)
        return
    viewer = start_web_viewer(target.port, path)
    try:
        yield viewer
    finally:
        viewer.end()
