"""`vps-ros export`: a checkpoint to a model file that describes itself."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vps_ros.commands.console import note, progress
from vps_ros.commands.refinements import add_refinements, build_engine, check_refinements, refine, size
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_folder
from vps_ros.learning.extra import require_training
from vps_ros.segmenters.model_card import describe_model
from vps_ros.shipped import model_path
from vps_ros.trackers.learned import copy_learned

if TYPE_CHECKING:
    from vps_ros.learning.verify import Difference

DESCRIPTION = (
    "Writes a trained model, ours or others', as ONNX, after checking that ONNX Runtime computes what torch does."
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a run's folder, its checkpoint.pt, or an exported model; of hf, a folder or a name of its hub"
        "; of kmax and panopticfcn, a .pth or .pkl file; of onnx, any model file",
    )
    parser.add_argument("-o", "--output", required=True, metavar="M.onnx", help="the model file to write")
    parser.add_argument(
        "--from", dest="origin", default="vps", choices=tuple(SOURCES), help="what wrote the checkpoint (default: vps)"
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
    add_refinements(parser)
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    path = refuse_folder(args.output, args.force)
    args.size = size("--size", args.size) if args.size else None
    check_refinements(args)
    for option, (sources, given) in _only(args).items():
        if given and args.origin not in sources:
            raise InputError(f"--from {args.origin}: {option} goes with --from {' and '.join(sources)} only")
    require_training("exporting")
    with atomic_write(path) as args.output:
        SOURCES[args.origin](args)
        refine(args, args.output)
    note(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if args.origin == "onnx" and (weights := copy_learned(model_path(args.checkpoint), path)):
        note(f"{weights}: what its trackers have learned goes with it")
    if args.build_engine:
        build_engine(args, path)
    return 0


def _from_vps(args: argparse.Namespace) -> None:
    path, size = args.output, args.size
    from vps_ros.learning.export import model_card
    from vps_ros.learning.models import kind_for
    from vps_ros.learning.sources import source_of
    from vps_ros.learning.start import trained
    from vps_ros.learning.validation import predict, tune
    from vps_ros.learning.voice import Voice

    if (Path(args.checkpoint) / "config.json").is_file():
        raise InputError(f"{args.checkpoint}: a folder that transformers saved; add --from hf")
    model, recipe, step, limits = trained(Path(args.checkpoint))
    kind, voice, data = kind_for(recipe), Voice(progress, note), recipe.data
    card = model_card(kind, recipe, step, size, limits)
    if args.tune:
        frames = source_of(data).validation(voice)
        if not frames:
            raise InputError("--tune: the recipe names no validation_split; leave --tune out")
        predictions = list(predict(kind, model, frames, card.input))
        limits, report = tune(predictions, voice, data.taxonomy, kind.activation, kind.limits)
        card = model_card(kind, recipe, step, size, limits)
        note(f"PQ {report.pq.all:.3f} on validation frames, things {report.pq.things:.3f}, stuff {report.pq.stuff:.3f}")
    difference = kind.export(model, card, path)
    note(f"largest difference from torch {difference:.1e} of the outputs' range")


def _from_hf(args: argparse.Namespace) -> None:
    require_training("reading checkpoints of transformers", "transformers")
    from vps_ros.learning.hf import import_checkpoint
    from vps_ros.learning.voice import Voice

    report = import_checkpoint(args.checkpoint, args.output, args.size, args.fp16, args.taxonomy, Voice(progress, note))
    _tell(report.differences)


def _tell(differences: Sequence[Difference]) -> None:
    for one in differences:
        note(f"{one.name}: at most {one.largest:.1e} of its range from torch, {one.typical:.1e} of its size on average")


def _from_kmax(args: argparse.Namespace) -> None:
    from vps_ros.learning.kmax.export import import_checkpoint
    from vps_ros.learning.voice import Voice

    report = import_checkpoint(args.checkpoint, args.output, args.size, args.fp16, args.taxonomy, Voice(progress, note))
    _tell(report.differences)


def _from_panopticfcn(args: argparse.Namespace) -> None:
    from vps_ros.learning.panoptic_fcn.export import import_checkpoint
    from vps_ros.learning.voice import Voice

    report = import_checkpoint(args.checkpoint, args.output, args.size, args.taxonomy, Voice(progress, note))
    note(f"largest difference from torch {report.difference:.1e} of the outputs' range")


def _from_onnx(args: argparse.Namespace) -> None:
    found = describe_model(args.checkpoint)
    if found.card is None:
        raise InputError(found.problem)
    shutil.copyfile(found.path, args.output)


SOURCES = {"vps": _from_vps, "hf": _from_hf, "kmax": _from_kmax, "panopticfcn": _from_panopticfcn, "onnx": _from_onnx}
"""What wrote the checkpoint -> what makes a model file of it.

`args.output` is where to write it: a draft, which is changed further, moved to its place and named when it is whole;
`args.size` is width and height, or None."""


def _only(args: argparse.Namespace) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Options that not every source has: those that have it, and whether it was given."""
    return {
        "--tune": (("vps",), args.tune),
        "--size": (("vps", "hf", "kmax", "panopticfcn"), args.size is not None),
        "--fp16": (("hf", "kmax"), args.fp16),
        "--taxonomy": (("hf", "kmax", "panopticfcn"), args.taxonomy is not None),
    }
