"""What `vps-ros export` does to a model file once it is made: int8, post-processing in the graph, TensorRT's engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from vps_ros.commands.console import note, progress
from vps_ros.errors import InputError
from vps_ros.segmenters.runtime import available_providers

_FRAMES = 24
"""That int8 is calibrated on."""


def add_refinements(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--postprocess",
        choices=("host", "graph"),
        default="host",
        help="where masks become segments: by this package, or inside the file, for GPUs (default: host)",
    )
    parser.add_argument(
        "--camera", metavar="WxH", help="of --postprocess graph: size of the images (default: the network's input)"
    )
    parser.add_argument("--int8", action="store_true", help="integer convolutions, for CPUs; calibrated on streets")
    parser.add_argument(
        "--build-engine",
        nargs="?",
        const="fp32",
        choices=("fp32", "fp16"),
        help="also build TensorRT's engine now, which takes minutes, in this precision (default: fp32)",
    )


def check_refinements(args: argparse.Namespace) -> None:
    """Raises InputError for what cannot be done, before anything is. `args.camera` becomes width and height."""
    if args.camera is not None and args.postprocess != "graph":
        raise InputError("--camera is the size of a segment_map; it goes with --postprocess graph only")
    if args.int8 and args.fp16:
        raise InputError("--int8 is for CPUs and --fp16 for GPUs; choose one")
    if args.build_engine:
        available_providers(("tensorrt",), False)
    if args.camera is not None:
        args.camera = size("--camera", args.camera)


def refine(args: argparse.Namespace, path: Path) -> None:
    """Changes a model file as the arguments say."""
    if args.int8:
        from vps_ros.learning.int8 import quantise
        from vps_ros.learning.street_frames import street_frames

        images = list(progress(street_frames(), "calibration frames", _FRAMES))
        same = quantise(path, images, str(args.checkpoint))
        note(f"int8: {100 * same:.1f} % of the pixels of {len(images)} frames keep their class")
    if args.postprocess == "graph":
        from vps_ros.learning.in_graph.exchange import exchange

        camera = None if args.camera is None else (args.camera[1], args.camera[0])
        same = exchange(path, camera, str(args.checkpoint))
        note(f"post-processing in the graph: {100 * same:.3f} % of a frame's pixels are as the host makes them")


def build_engine(args: argparse.Namespace, path: Path) -> None:
    """Builds the engine that a start with TensorRT would build, and keeps it where that start looks for it."""
    from vps_ros.segmenters.segmenter import SegmenterParameters
    from vps_ros.segmenters.session import Session

    Session(path, SegmenterParameters(providers=("tensorrt",), tensorrt_fp16=args.build_engine == "fp16"))


def size(option: str, text: str) -> tuple[int, int]:
    """Width and height of "640x192"; raises InputError."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        width = height = 0
    if width < 1 or height < 1:
        raise InputError(f"{option} {text!r}: write it as 640x192")
    return width, height
