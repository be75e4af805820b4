"""The flags of commands that read registered depth images, and the depth source that they name."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from vps_ros.depth.locator import ObjectLocator
from vps_ros.errors import InputError
from vps_ros.recording.depth import DEFAULT_SLOP, MILLIMETRES, BagDepth, DepthSource, FolderDepth, read_intrinsics
from vps_ros.recording.frames import BagReader, FrameSource
from vps_ros.recording.transforms import BagTransforms


def add_depth_flags(parser: argparse.ArgumentParser, effect: str) -> None:
    """Adds --depth, whose help ends with `effect`, --depth-slop, --depth-scale, --camera-info, --objects-frame."""
    parser.add_argument(
        "--depth",
        metavar="TOPIC|FOLDER",
        help="depth images registered to the frames: a topic of the bag (16UC1 in mm, 32FC1 in m), or a folder with "
        f"the names or stamps of the frames; {effect}",
    )
    parser.add_argument(
        "--depth-slop",
        type=float,
        default=DEFAULT_SLOP,
        metavar="S",
        help=f"most seconds between a frame and its depth image; 0: equal stamps (default: {DEFAULT_SLOP:g})",
    )
    parser.add_argument(
        "--depth-scale",
        type=float,
        default=MILLIMETRES,
        metavar="N",
        help=f"of a folder with images of 16 bits: units in one metre (default: {MILLIMETRES:g})",
    )
    parser.add_argument(
        "--camera-info",
        metavar="F",
        help="calibration, YAML (camera_calibration) or JSON; default: topic camera_info or camera_info.yaml in FOLDER",
    )
    parser.add_argument(
        "--objects-frame",
        metavar="FRAME",
        help="coordinate frame of the objects and points in 3D, such as odom, by TF of the bag (default: the camera's)",
    )


def open_depth(args: argparse.Namespace, source: FrameSource, path: str) -> DepthSource | None:
    """The depth images of the flags for the frames of `source`; None without --depth.

    Args:
        path: of the recording with the frames.

    Raises InputError for a flag without --depth, a value that cannot be, or depth that cannot be read.
    """
    if args.depth is None:
        if args.camera_info:
            raise InputError("--camera-info needs --depth TOPIC or --depth FOLDER")
        if args.objects_frame:
            raise InputError("--objects-frame needs --depth TOPIC or --depth FOLDER")
        return None
    if not 0 <= args.depth_slop < 10:
        raise InputError(f"--depth-slop {args.depth_slop:g}: give seconds from 0 to 10")
    if not args.depth_scale > 0:
        raise InputError(f"--depth-scale {args.depth_scale:g}: give the number of units in one metre, as 1000")
    intrinsics = read_intrinsics(args.camera_info) if args.camera_info else None
    if Path(args.depth).is_dir():
        return FolderDepth(args.depth, source.file_names, args.depth_scale, args.depth_slop, intrinsics)
    if not isinstance(source, BagReader):
        raise InputError(f"--depth {args.depth}: no such folder; only bags have topics of depth images")
    return BagDepth(path, args.depth, source.topic, args.depth_slop, intrinsics)


def open_locator(args: argparse.Namespace, source: FrameSource, path: str, opened: ExitStack) -> ObjectLocator:
    """What makes objects in 3D, in the frame of --objects-frame; `opened` closes what it reads.

    Args:
        path: of the recording with the frames.

    Raises InputError if the recording has no TF.
    """
    if not args.objects_frame:
        return ObjectLocator()
    if not isinstance(source, BagReader):
        raise InputError(f"--objects-frame {args.objects_frame}: {path} is no bag; only bags have TF")
    return ObjectLocator(args.objects_frame, opened.enter_context(BagTransforms(path, args.objects_frame)))
