"""`vps-ros view`: shows a recording, a result, a camera or the topics of a running node."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from vps_ros.commands.console import note, progress, warn
from vps_ros.commands.dds import add_dds_flags
from vps_ros.commands.depth import add_depth_flags, open_depth, open_locator
from vps_ros.commands.options import add_parameter_flags, config_from
from vps_ros.commands.truth import TruthReader, add_truth_flags
from vps_ros.commands.viewing import add_viewer_flags, announce, finish, serve, sink_of, target_of
from vps_ros.config import Config
from vps_ros.depth.locator import ObjectLocator
from vps_ros.drawing.viewer import Target, Viewer, open_recording
from vps_ros.drawing.views import View
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.files import write_json
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.bag import is_bag
from vps_ros.recording.depth import DepthSource, depth_topics
from vps_ros.recording.frames import BagReader, FrameSource, is_camera, open_frames
from vps_ros.recording.image_files import DEFAULT_HZ
from vps_ros.recording.replay import Summary, replay
from vps_ros.recording.results import ResultReader, has_result
from vps_ros.recording.transforms import BagTransforms

DESCRIPTION = (
    "Look at a drive: image, panoptic map, boxes and trails with ids, the life of each track, latency and drops. A "
    "result of `vps-ros replay` is shown as it is; the objects of any other bag, video, folder or camera are tracked "
    "first."
)
EXAMPLES = [
    "vps-ros view demo",
    "vps-ros view drive.mcap",
    "vps-ros view tracked.mcap --images drive.mcap --gt drive.mcap",
    "vps-ros view tracked.mcap --images drive.mcap --depth /camera/depth/image_raw",
    "vps-ros view dashcam.mp4 --web",
    "vps-ros view 0",
    "vps-ros view rtsp://192.168.0.20/stream1",
    "vps-ros view drive.mcap --save drive.rrd",
    "vps-ros view --live /camera/image_raw --name vps",
    "vps-ros view --live front=/front/image_raw --live rear=/rear/image_raw",
]
_DEMO_DRIVE, _DEMO_RESULT = "drive.mcap", "tracked.mcap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        help="a bag, a video, a folder of images, the number or address of a camera, a result of `vps-ros replay`, the "
        "folder of `vps-ros demo`, or a recording of the viewer (.rrd)",
    )
    parser.add_argument(
        "--live",
        action="append",
        metavar="TOPIC",
        help="an image topic, with the results and the latency that a node publishes for it; NAME=TOPIC, repeated, for "
        "several cameras of the node",
    )
    parser.add_argument("--name", default="vps", help="with --live: name of that node (default: vps)")
    parser.add_argument("--images", metavar="PATH", help="of a result: the recording that has its images")
    parser.add_argument("--topic", help="image topic of a bag or number of a video stream; required if it has several")
    parser.add_argument("--result", metavar="TOPIC", help="of a bag with results of several cameras: /vps/front")
    add_depth_flags(parser, "shows objects and points in 3D (default: the depth topic of the bag, if it has one)")
    parser.add_argument("--hz", type=float, help=f"frames per second of images (default: {DEFAULT_HZ:g})")
    parser.add_argument("--json", metavar="F", help="write how many frames were shown as JSON")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    add_viewer_flags(parser, beside=False)
    add_truth_flags(parser)
    add_dds_flags(parser)
    add_parameter_flags(parser)


def run(args: argparse.Namespace) -> int:
    if (args.source is None) == (args.live is None):
        raise InputError("give a source, such as drive.mcap, or --live TOPIC")
    target = target_of(args)
    if args.live is not None:
        from vps_ros.commands.view_live import view_topics

        return view_topics(args, target)
    if args.source.endswith(".rrd"):
        with open_recording(args.source, target) as opened, suppress(KeyboardInterrupt):
            if opened.page:
                note(f"shown at {opened.page}; Ctrl-C ends")
                opened.process.wait()
        return 0
    _find_parts(args)
    if is_bag(args.source) and has_result(args.source):
        return _view_result(args, target)
    return _view_tracked(args, target, config_from(args))


def _find_parts(args: argparse.Namespace) -> None:
    """The files of a folder that `vps-ros demo` wrote."""
    folder = Path(args.source)
    if (folder / _DEMO_DRIVE).is_file() and (folder / _DEMO_RESULT).is_file():
        args.source, drive = str(folder / _DEMO_RESULT), str(folder / _DEMO_DRIVE)
        args.images, args.gt = args.images or drive, args.gt or drive


def _view_result(args: argparse.Namespace, target: Target) -> int:
    with ExitStack() as opened:
        results = opened.enter_context(ResultReader(args.source, args.result))
        images = _images_of(args, results, opened)
        depth = _depth_of(args, images, args.images or args.source) if images else None
        if depth:
            opened.callback(depth.close)
        make = open_locator(args, images, args.images or args.source, opened) if images else ObjectLocator()
        locate = _Locator(depth, make, partial(_open_transforms, args.images or args.source, opened))
        truth = opened.enter_context(TruthReader(args)) if args.gt else None
        in_3d = results.has_objects_3d or depth is not None
        viewer = opened.enter_context(_viewer(args, target, timing=False, depth=in_3d))
        announce(viewer)
        found = 0
        frames = images.frames() if images else ()
        for frame, result in progress(join(frames, results.frames()), "view", results.count):
            if not viewer.open:
                break
            found += frame is not None
            image = None if frame is None else frame.image
            shown = result if frame is None else locate(frame, result)
            viewer.show(View(result.stamp, image, shown, truth.of(result) if truth else None))
        _warn_of_depth(locate.failures)
        if not found:
            warn(f"{args.source}: no image with the stamp of a result; name the recording with --images drive.mcap")
        return _end(args, viewer)


def _images_of(args: argparse.Namespace, results: ResultReader, opened: ExitStack) -> FrameSource | None:
    if args.images:
        return opened.enter_context(open_frames(args.images, topic=args.topic, hz=args.hz))
    with suppress(InputError):
        own = opened.enter_context(open_frames(args.source, topic=args.topic))
        # The map itself is an image too.
        return own if own.name != results.name else None
    return None


def _depth_of(args: argparse.Namespace, frames: FrameSource, path: str) -> DepthSource | None:
    """The depth images of --depth, or of the only depth topic of the bag with the frames."""
    if args.depth is None and isinstance(frames, BagReader):
        topics = depth_topics(path)
        if len(topics) == 1:
            args.depth = topics[0]
            note(f"depth: {args.depth}")
        elif topics:
            note(f"no objects in 3D: choose a depth topic with --depth: {', '.join(topics)}")
    return open_depth(args, frames, path)


class _Locator:
    """Adds a depth image to the objects in 3D of a result, or objects in 3D to a result that has none.

    Args:
        open_transforms: transforms to a coordinate frame, for objects that were recorded in another one than the
            camera's.

    Attributes:
        failures: reason -> number of frames without depth.
    """

    def __init__(
        self, depth: DepthSource | None, locate: ObjectLocator, open_transforms: Callable[[str], BagTransforms]
    ) -> None:
        self.failures: Counter[str] = Counter()
        self._depth, self._locate = depth, locate
        self._open_transforms, self._transforms = open_transforms, dict[str, BagTransforms | str]()

    def __call__(self, frame: Frame, result: PanopticFrame) -> PanopticFrame:
        if self._depth is None:
            return result
        try:
            depth = self._depth.of(frame)
            found = result.objects_3d
            if found is None:
                return self._locate(result, depth)
            transform = found.transform
            if found.frame_id != result.frame_id:
                transform = self._transforms_to(found.frame_id)(result.frame_id, result.stamp)
        except DroppedFrame as error:
            self.failures[str(error)] += 1
            return result
        return replace(result, objects_3d=replace(found, depth=depth, transform=transform))

    def _transforms_to(self, frame_id: str) -> BagTransforms:
        """Raises DroppedFrame if there is no TF."""
        if frame_id not in self._transforms:
            try:
                self._transforms[frame_id] = self._open_transforms(frame_id)
            except InputError as error:
                self._transforms[frame_id] = str(error)
        found = self._transforms[frame_id]
        if isinstance(found, str):
            raise DroppedFrame(found)
        return found


def _open_transforms(path: str, opened: ExitStack, frame_id: str) -> BagTransforms:
    return opened.enter_context(BagTransforms(path, frame_id))


def _warn_of_depth(failures: Counter[str]) -> None:
    for reason, count in failures.items():
        warn(f"{count} frame(s) without depth: {reason}")


def join(images: Iterable[Frame], results: Iterable[PanopticFrame]) -> Iterator[tuple[Frame | None, PanopticFrame]]:
    """Each result with the image of its stamp, or None; both in the order of their stamps."""
    waiting = iter(images)
    image = next(waiting, None)
    for result in results:
        while image is not None and image.stamp < result.stamp:
            image = next(waiting, None)
        yield (image if image is not None and image.stamp == result.stamp else None), result


def _view_tracked(args: argparse.Namespace, target: Target, config: Config) -> int:
    camera = is_camera(args.source)
    with ExitStack() as opened:
        number = int(args.source) if camera and args.source.isdecimal() else args.source
        source = opened.enter_context(open_frames(number, topic=args.topic, hz=args.hz))
        truth = opened.enter_context(TruthReader(args)) if args.gt else None
        depth = _depth_of(args, source, args.source)
        if depth:
            opened.callback(depth.close)
        locator = open_locator(args, source, args.source, opened)
        pipeline = OnlinePanoptic(config)
        # A camera does not wait for a viewer.
        viewer = opened.enter_context(_viewer(args, target, wait=not camera, depth=depth is not None))
        announce(viewer)
        summary = Summary()
        sink = sink_of(viewer, truth, lambda: {"unusable": summary.dropped.total()})
        frames = takewhile(lambda frame: viewer.open, progress(source.frames(), "view", source.count))
        try:
            replay(frames, pipeline, [sink], 1 if camera else os.cpu_count() or 1, depth, summary, locator)
        except KeyboardInterrupt:
            pass
        except InputError as error:
            # What a camera has given before it was lost is still shown and recorded.
            if not camera or not summary.milliseconds:
                raise
            warn(str(error))
        for loss in source.losses:
            warn(str(loss))
        for reason, count in summary.dropped.items():
            warn(f"{count} frame(s) skipped: {reason}")
        if summary.depth:
            _warn_of_depth(summary.depth.failures)
        return _end(args, viewer)


def _viewer(args: argparse.Namespace, target: Target, **options: Any) -> Viewer:
    return Viewer(target, truth=args.gt is not None, name=Path(args.source).name, **{"wait": True, **options})


def _end(args: argparse.Namespace, viewer: Viewer) -> int:
    finish(viewer)
    if args.json:
        write_json(args.json, viewer.to_json())
    if args.save:
        note(f"recorded: {args.save}; show it with `vps-ros view {args.save}`")
    serve(viewer)
    return 0
