"""`vps-ros synth`: generated street drives with exact ground truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from vps_ros.commands.console import note, progress
from vps_ros.commands.options import add_minimum_size_flags
from vps_ros.datasets.kitti_step import MAPS, image_path, map_path, save_map
from vps_ros.datasets.labels import MinimumSize
from vps_ros.datasets.streets import SCENARIOS, TRAINING, StreetFrame, drive
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, write_json
from vps_ros.messages.images import array_to_image
from vps_ros.messages.panoptic import CLASS_DIVISOR, VOID_PIXEL, label_info, make_header
from vps_ros.messages.typestore import make_message
from vps_ros.reading import read_size
from vps_ros.recording.writer import BagWriter
from vps_ros.taxonomy import CITYSCAPES, VOID_ID

DESCRIPTION = (
    "Generate drives through streets, with class and identity of every pixel. "
    "kitti-step: OUT/images, OUT/panoptic_maps and OUT/calib; bag: images, camera info and ground truth. Scenarios: "
    + "; ".join(f"{name}: {s.meaning}" for name, s in SCENARIOS.items())
    + "; mixed: each drive the next of these; "
    + "; ".join(f"{name}: {s.meaning}" for name, s in TRAINING.items())
    + "."
)
EXAMPLES = [
    "vps-ros synth -o streets/ --sequences 12 --frames 100",
    "vps-ros synth -o night.mcap --format bag --scenario night --seed 7",
    "vps-ros synth -o depth.mcap --format bag --depth",
    "vps-ros synth -o bags/ --format bag --sequences 3 --size 1242x376",
]
IMAGE_TOPIC, INFO_TOPIC = "/camera/image_raw", "/camera/camera_info"
DEPTH_TOPIC, DEPTH_INFO_TOPIC = "/camera/depth/image_raw", "/camera/depth/camera_info"
TF_TOPIC, WORLD = "/tf", "world"
TRUTH_TOPIC, NAMES_TOPIC = "/ground_truth/panoptic_ids", "/ground_truth/label_info"
_MIXED = "mixed"
_FIRST_BAG = "0000.mcap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="folder, or OUT.mcap for one drive as a bag"
    )
    parser.add_argument("--format", choices=("kitti-step", "bag"), default="kitti-step", help="default: kitti-step")
    parser.add_argument("--sequences", type=int, default=1, metavar="N", help="number of drives (default: 1)")
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="frames in each (default: 100)")
    parser.add_argument("--size", default="640x192", metavar="WxH", help="pixels (default: 640x192)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="drive k has seed S + k (default: 0)")
    parser.add_argument("--scenario", default=_MIXED, metavar="NAME", help=f"default: {_MIXED}")
    add_minimum_size_flags(parser, "leave out things")
    parser.add_argument(
        "--depth",
        action="store_true",
        help="also write exact depth: 32FC1 on /camera/depth/image_raw in a bag, with the pose of the camera in the "
        "frame world on /tf; OUT/depth/NNNN/NNNNNN.npy in a folder",
    )
    parser.add_argument("--force", action="store_true", help="replace an output that exists")


def run(args: argparse.Namespace) -> int:
    size = read_size(args.size, "--size")
    if args.sequences < 1 or args.frames < 1:
        raise InputError(f"--sequences {args.sequences} --frames {args.frames}: both must be at least 1")
    if args.scenario not in (known := (*SCENARIOS, *TRAINING, _MIXED)):
        raise InputError(f"--scenario {args.scenario!r} is unknown; choose one of {', '.join(known)}")
    names = list(SCENARIOS) if args.scenario == _MIXED else [args.scenario]
    plan = [(names[k % len(names)], args.seed + k) for k in range(args.sequences)]
    smallest = MinimumSize(args.least_area, args.least_height)
    drives = [
        (name, seed, _without_small_things(drive(name, seed, args.frames, size), smallest)) for name, seed in plan
    ]
    if args.format == "kitti-step":
        _write_folder(Path(args.output), drives, args.frames, args.force, smallest, args.depth)
    elif args.sequences == 1:
        name, _, frames = drives[0]
        write_bag(args.output, progress(frames, name, args.frames), args.force, args.depth)
    else:
        if args.output.endswith(".mcap"):
            raise InputError(f"{args.output}: one bag holds one drive; name a folder, or leave --sequences at 1")
        with atomic_write(args.output, args.force, _FIRST_BAG) as draft:
            draft.mkdir()
            for k, (name, _, frames) in enumerate(drives):
                shown = progress(frames, f"{k:04d} {name}", args.frames)
                write_bag(draft / f"{k:04d}.mcap", shown, depth=args.depth)
    note(f"{args.output}: {args.sequences} x {args.frames} frames of {size[0]}x{size[1]}")
    return 0


def _without_small_things(frames: Iterator[StreetFrame], smallest: MinimumSize) -> Iterator[StreetFrame]:
    """The frames, with void in place of things that are too small."""
    for f in frames:
        semantic, instance = smallest.void_small(f.semantic, f.instance, CITYSCAPES)
        yield replace(f, semantic=semantic, instance=instance)


def write_bag(path: str | Path, frames: Iterable[StreetFrame], force: bool = False, depth: bool = False) -> None:
    """One drive as a bag: raw images, camera info, and ground truth as 32SC1 (class * 1000000 + instance) with names.

    Args:
        depth: also write exact depth (32FC1, metres; the sky is infinite) with the camera info beside it, and the pose
            of the camera as TF.

    Raises InputError as BagWriter does.
    """
    # Camera images hardly shrink: compression would cost time at every replay, and save little.
    with BagWriter(path, force, compress=False) as bag:
        for i, f in enumerate(frames):
            stamp = f.frame.stamp
            if i == 0:
                names = label_info(stamp, f.frame.frame_id, CITYSCAPES)
                bag.write(NAMES_TOPIC, names, stamp, latched=True)
            header = make_header(stamp, f.frame.frame_id)
            ids = f.semantic.astype(np.int32) * CLASS_DIVISOR + f.instance
            ids[f.semantic == VOID_ID] = VOID_PIXEL
            bag.write(IMAGE_TOPIC, array_to_image(f.frame.image, "rgb8", header), stamp)
            bag.write(INFO_TOPIC, _camera_info(f, header), stamp)
            if depth:
                bag.write(DEPTH_TOPIC, array_to_image(f.depth, "32FC1", header), stamp)
                bag.write(DEPTH_INFO_TOPIC, _camera_info(f, header), stamp)
                bag.write(TF_TOPIC, _pose(f), stamp)
            bag.write(TRUTH_TOPIC, array_to_image(ids, "32SC1", header), stamp)


def _pose(f: StreetFrame) -> Any:
    """tf2_msgs/TFMessage of the camera in the world."""
    translation, quaternion = f.pose[:3, 3].tolist(), Rotation.from_matrix(f.pose[:3, :3]).as_quat().tolist()
    transform = make_message(
        "geometry_msgs/msg/Transform",
        translation=make_message("geometry_msgs/msg/Vector3", **dict(zip("xyz", translation, strict=True))),
        rotation=make_message("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", quaternion, strict=True))),
    )
    stamped = make_message(
        "geometry_msgs/msg/TransformStamped",
        header=make_header(f.frame.stamp, WORLD),
        child_frame_id=f.frame.frame_id,
        transform=transform,
    )
    return make_message("tf2_msgs/msg/TFMessage", transforms=[stamped])


def _camera_info(f: StreetFrame, header: Any) -> Any:
    height, width = f.semantic.shape
    projection = np.zeros((3, 4))
    projection[:, :3] = f.camera
    roi = make_message("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return make_message(
        "sensor_msgs/msg/CameraInfo",
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=f.camera.ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def _write_folder(
    output: Path,
    drives: list[tuple[str, int, Iterator[StreetFrame]]],
    count: int,
    force: bool,
    smallest: MinimumSize,
    depth: bool = False,
) -> None:
    with atomic_write(output, force, MAPS) as draft:
        for k, (name, seed, frames) in enumerate(drives):
            sequence = f"{k:04d}"
            stamps = []
            for i, f in enumerate(progress(frames, f"{sequence} {name}", count)):
                image = image_path(draft, sequence, f"{i:06d}")
                image.parent.mkdir(parents=True, exist_ok=True)
                image.write_bytes(cv2.imencode(".png", f.frame.image[..., ::-1])[1].tobytes())
                save_map(map_path(draft, sequence, f"{i:06d}"), f.semantic, f.instance)
                if depth:
                    file = draft / "depth" / sequence / f"{i:06d}.npy"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    np.save(file, f.depth)
                stamps.append(f.frame.stamp)
            calibration = {
                "scenario": name,
                "seed": seed,
                "width": f.semantic.shape[1],
                "height": f.semantic.shape[0],
                "camera_matrix": f.camera,
                "stamps_ns": stamps,
            }
            if smallest:
                calibration["void"] = str(smallest)
            write_json(draft / "calib" / f"{sequence}.json", calibration)
