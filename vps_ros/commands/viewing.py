"""What the commands with a viewer share: their flags, and a viewer that cannot end the work."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from vps_ros.commands.console import note, warn
from vps_ros.drawing.viewer import Target, Viewer
from vps_ros.drawing.views import View
from vps_ros.errors import InputError


def add_viewer_flags(parser: argparse.ArgumentParser, beside: bool = True) -> None:
    """Adds --view (with `beside`, for commands that have other work to do), --web, --save, --connect and --port."""
    group = parser.add_argument_group("viewer (pip install 'vps_ros[view]'; see docs/view.md)")
    if beside:
        group.add_argument("--view", action="store_true", help="show the frames in a window while the command runs")
    group.add_argument("--web", action="store_true", help="serve the viewer for a browser on this machine (127.0.0.1)")
    group.add_argument("--save", metavar="F.rrd", help="record what is shown, to open it later: vps-ros view F.rrd")
    group.add_argument(
        "--connect", metavar="URL", help="show in a viewer that runs already: rerun+http://HOST:9876/proxy"
    )
    group.add_argument(
        "--port", type=int, default=0, metavar="N", help="port of --web; its data use port N + 1 (default: free ports)"
    )


def target_of(args: argparse.Namespace) -> Target:
    """The target of the flags. `vps-ros view` opens a window unless another place is given.

    Raises InputError for a port that cannot be.
    """
    if not 0 <= args.port < 65535:
        raise InputError(f"--port {args.port}: give a port from 1 to 65534")
    elsewhere = bool(args.web or args.save or args.connect)
    window = getattr(args, "view", not elsewhere)
    return Target(window, args.web, args.save, args.connect, args.port, getattr(args, "force", False))


@contextmanager
def viewer_beside(target: Target, **options: Any) -> Iterator[Viewer | None]:
    """A viewer for a command with other work: when it cannot be opened, that is a warning, and the value is None.

    The caller calls `finish` before it writes its figures.
    """
    if not target:
        yield None
        return
    with ExitStack() as opened:
        try:
            viewer = opened.enter_context(Viewer(target, **options))
        except InputError as error:
            warn(f"{error}; the frames are not shown")
            yield None
            return
        announce(viewer)
        yield viewer


def announce(viewer: Viewer) -> None:
    if viewer.url:
        note(f"viewer: {viewer.url}")


def finish(viewer: Viewer) -> None:
    """Sends the frames that wait; reports those that were not shown."""
    viewer.finish()
    for line in viewer.losses():
        warn(line)


def serve(viewer: Viewer | None) -> None:
    """Serves the web viewer, if there is one, until Ctrl-C."""
    if viewer is not None and viewer.url:
        note(f"everything is shown at {viewer.url}; Ctrl-C ends")
        with suppress(KeyboardInterrupt):
            viewer.wait_until_closed()


def sink_of(viewer: Viewer, truth: Any = None, drops: Callable[[], dict[str, int]] = dict) -> Callable[..., None]:
    """A sink for `replay`; `truth`: a TruthReader."""

    def show(frame: Any, result: Any) -> None:
        found = truth.of(result) if truth else None
        viewer.show(View(frame.stamp, frame.image, result, found, drops()))

    return show
