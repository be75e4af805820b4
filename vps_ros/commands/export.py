"""`vps-ros export`: a checkpoint to a model file with all its metadata."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vps_ros.commands.console import note, progress
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_folder
from vps_ros.learning import require_training
from vps_ros.reading import read_size
from vps_ros.segmenters.model_card import describe_model
from vps_ros.segmenters.runtime import available_providers
from vps_ros.segmenters.segmenter import SegmenterParameters
from vps_ros.shipped import model_path
from vps_ros.trackers.learned import copy_learned

if TYPE_CHECKING:
    from vps_ros.learning import Reporter
    from vps_ros.learning.export.verify import Difference

DESCRIPTION = (
    "Writes a trained model, of this package or of another, as ONNX, after comparing the outputs of ONNX Runtime with "
    "those of torch."
)
EXAMPLES = [
    "vps-ros export runs/streets-s -o streets-s.onnx --tune",
    "vps-ros export streets-s.onnx -o wide.onnx --size 960x256 --tune",
    "vps-ros export --from hf facebook/mask2former-swin-tiny-cityscapes-panoptic -o city.onnx --size 2048x1024 --fp16",
    "vps-ros export --from kmax kmax_convnext_large.pth -o kmax.onnx --size 1281x417",
    "vps-ros export --from panopticfcn panoptic_fcn_r50_3x.pth -o fcn.onnx --size 1344x416",
    "vps-ros export --from onnx city.onnx -o city-gpu.onnx --postprocess graph --camera 1920x1080 --build-engine fp16",
    "vps-ros export --from onnx streets-s-float -o streets-int8.onnx --int8",
    "vps-ros inspect streets-s.onnx",
]
_CALIBRATION_FRAMES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="folder of a training run, its checkpoint.pt, or an exported model; with --from hf a folder or a name on "
        "the hub; with --from kmax and panopticfcn a .pth or .pkl file; with --from onnx any model file",
    )
    parser.add_argument("-o", "--output", required=True, metavar="M.onnx", help="the model file to write")
    parser.add_argument(
        "--from", dest="origin", default="vps", choices=tuple(SOURCES), help="origin of the checkpoint (default: vps)"
    )
    parser.add_argument("--size", metavar="WxH", help="input size of the network (default: that of training)")
    parser.add_argument("--fp16", action="store_true", help="of hf and kmax: compute in half precision, for GPUs")
    parser.add_argument(
        "--taxonomy",
        metavar="NAME",
        help="of hf, kmax and panopticfcn: the data set whose classes the checkpoint has, or a JSON file of them",
    )
    parser.add_argument(
        "--tune", action="store_true", help="search the thresholds with the best PQ + STQ on the validation frames"
    )
    parser.add_argument(
        "--postprocess",
        choices=("host", "graph"),
        default="host",
        help="where masks become segments: in this package, or inside the file, for GPUs (default: host)",
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
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    path = refuse_folder(args.output, args.force)
    _check(args)
    require_training("exporting")
    with atomic_write(path) as args.output:
        SOURCES[args.origin](args)
        if args.int8:
            _quantise(args)
        if args.postprocess == "graph":
            _move_postprocessing_into_graph(args)
    note(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if args.origin == "onnx" and (weights := copy_learned(model_path(args.checkpoint), path)):
        note(f"{weights}: the learned weights of its trackers, copied with it")
    if args.build_engine:
        from vps_ros.segmenters.session import Session

        # Loading the model builds the engine and stores it in the cache.
        Session(path, SegmenterParameters(providers=("tensorrt",), tensorrt_fp16=args.build_engine == "fp16"))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises InputError for options that exclude each other. `size` and `camera` become width and height, or None."""
    args.size = read_size(args.size, "--size") if args.size else None
    if args.camera is not None and args.postprocess != "graph":
        raise InputError("--camera is the size of a segment_map; it goes with --postprocess graph only")
    if args.int8 and args.fp16:
        raise InputError("--int8 is for CPUs and --fp16 for GPUs; choose one")
    if args.build_engine:
        available_providers(("tensorrt",), False)
    args.camera = None if args.camera is None else read_size(args.camera, "--camera")
    for option, (sources, given) in {
        "--tune": (("vps",), args.tune),
        "--size": (("vps", "hf", "kmax", "panopticfcn"), args.size is not None),
        "--fp16": (("hf", "kmax"), args.fp16),
        "--taxonomy": (("hf", "kmax", "panopticfcn"), args.taxonomy is not None),
    }.items():
        if given and args.origin not in sources:
            raise InputError(f"--from {args.origin}: {option} goes with --from {' and '.join(sources)} only")


def _from_vps(args: argparse.Namespace) -> None:
    from vps_ros.learning.data.sources import source_of
    from vps_ros.learning.export.onnx_file import model_card
    from vps_ros.learning.kinds import kind_for
    from vps_ros.learning.training.initial_weights import trained
    from vps_ros.learning.training.validation import predict, tune

    if (Path(args.checkpoint) / "config.json").is_file():
        raise InputError(f"{args.checkpoint}: a folder that transformers saved; add --from hf")
    model, recipe, step, limits = trained(Path(args.checkpoint))
    kind, reporter, data = kind_for(recipe), _reporter(), recipe.data
    card = model_card(kind, recipe, step, args.size, limits)
    if args.tune:
        frames = source_of(data).validation(reporter)
        if not frames:
            raise InputError("--tune: the recipe has no validation_split; leave --tune out")
        predictions = list(predict(kind, model, frames, card.input))
        limits, report = tune(predictions, reporter, data.taxonomy, kind.activation, kind.thresholds)
        card = model_card(kind, recipe, step, args.size, limits)
        note(f"PQ {report.pq.all:.3f} on validation frames, things {report.pq.things:.3f}, stuff {report.pq.stuff:.3f}")
    difference = kind.export(model, card, args.output)
    note(f"largest difference from torch {difference:.1e} of the outputs' range")


def _from_hf(args: argparse.Namespace) -> None:
    require_training("reading checkpoints of transformers", "transformers")
    from vps_ros.learning.hf import import_checkpoint

    report = import_checkpoint(args.checkpoint, args.output, args.size, args.fp16, args.taxonomy, _reporter())
    _print_differences(report.differences)


def _from_kmax(args: argparse.Namespace) -> None:
    from vps_ros.learning.kmax.export import import_checkpoint

    report = import_checkpoint(args.checkpoint, args.output, args.size, args.fp16, args.taxonomy, _reporter())
    _print_differences(report.differences)


def _from_panopticfcn(args: argparse.Namespace) -> None:
    from vps_ros.learning.panoptic_fcn.export import import_checkpoint

    report = import_checkpoint(args.checkpoint, args.output, args.size, args.taxonomy, _reporter())
    note(f"largest difference from torch {report.difference:.1e} of the outputs' range")


def _from_onnx(args: argparse.Namespace) -> None:
    found = describe_model(args.checkpoint)
    if found.card is None:
        raise InputError(found.problem)
    shutil.copyfile(found.path, args.output)


SOURCES = {"vps": _from_vps, "hf": _from_hf, "kmax": _from_kmax, "panopticfcn": _from_panopticfcn, "onnx": _from_onnx}
"""Origin of the checkpoint -> the function that writes the model file to `args.output`."""


def _quantise(args: argparse.Namespace) -> None:
    from vps_ros.learning.data.streets import street_frames
    from vps_ros.learning.export.int8 import quantise

    images = list(progress(street_frames(), "calibration frames", _CALIBRATION_FRAMES))
    same = quantise(args.output, images, str(args.checkpoint))
    note(f"int8: {100 * same:.1f} % of the pixels of {len(images)} frames keep their class")


def _move_postprocessing_into_graph(args: argparse.Namespace) -> None:
    from vps_ros.learning.in_graph.append import exchange

    camera = None if args.camera is None else (args.camera[1], args.camera[0])
    same = exchange(args.output, camera, str(args.checkpoint))
    note(f"post-processing in the graph: {100 * same:.3f} % of the pixels of a frame equal those of the host")


def _reporter() -> Reporter:
    from vps_ros.learning import Reporter

    return Reporter(progress, note)


def _print_differences(differences: Sequence[Difference]) -> None:
    for one in differences:
        note(f"{one.name}: at most {one.largest:.1e} of its range from torch, {one.typical:.1e} of its size on average")
