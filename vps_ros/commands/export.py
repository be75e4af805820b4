"""`vps-ros export`: a checkpoint to a model file with all its metadata."""

from __future__ import annotations

import argparse
import importlib
import shutil
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vps_ros.clips import MAX_LENGTH, ClipSpec
from vps_ros.commands.console import note, progress, warn
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, model_path, refuse_folder
from vps_ros.learning import Reporter, require_training
from vps_ros.reading import read_size
from vps_ros.segmenters.model_card import FlowCard, describe_model
from vps_ros.segmenters.runtime import available_providers
from vps_ros.segmenters.segmenter import SegmenterParameters
from vps_ros.trackers.learned import copy_learned

if TYPE_CHECKING:
    from vps_ros.segmenters.model_card import ModelCard

DESCRIPTION = (
    "Writes a trained model, of this package or of another, as ONNX, after comparing the outputs of ONNX Runtime with "
    "those of torch."
)
EXAMPLES = [
    "vps-ros export runs/streets-s -o streets-s.onnx --tune",
    "vps-ros export streets-s.onnx -o wide.onnx --size 960x256 --tune",
    "vps-ros export --from hf facebook/mask2former-swin-tiny-cityscapes-panoptic -o city.onnx --size 2048x1024 --fp16",
    "vps-ros export --from kmax kmax_convnext_large.pth -o kmax.onnx --size 1281x417",
    "vps-ros export --from kmax kmax_r50.pth -o clips.onnx --size 1281x417 --clip 2",
    "vps-ros export --from panopticfcn panoptic_fcn_r50_3x.pth -o fcn.onnx --size 1344x416",
    "vps-ros export runs/panoptic-fcn -o clips.onnx --kernels",
    "vps-ros export --from onnx city.onnx -o city-gpu.onnx --postprocess graph --camera 1920x1080 --build-engine fp16",
    "vps-ros export --from onnx streets-s-float -o streets-int8.onnx --int8",
    "vps-ros export --from yolo yolo11n-seg.onnx -o things.onnx",
    "vps-ros export --from semantic segformer.onnx --classes cityscapes -o stuff.onnx",
    "vps-ros export --merge things.onnx stuff.onnx -o city.onnx --size 1280x720",
    "vps-ros export --from raft raft_small_C_T_V2.pth -o raft.onnx --size 640x192 --updates 8",
    "vps-ros inspect streets-s.onnx",
]
_CALIBRATION_FRAMES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="folder of a training run, its checkpoint.pt, or an exported model; with --from hf a folder or a name on "
        "the hub; with --from kmax, panopticfcn and raft a .pth or .pkl file; with --from yolo, rfdetr and semantic an "
        "ONNX file; with --from onnx any model file",
    )
    parser.add_argument("-o", "--output", required=True, metavar="M.onnx", help="the model file to write")
    parser.add_argument(
        "--from", dest="origin", default="vps", choices=tuple(SOURCES), help="origin of the checkpoint (default: vps)"
    )
    parser.add_argument(
        "--merge",
        nargs=2,
        metavar=("THINGS", "STUFF"),
        help="instead of CHECKPOINT: joins a model for things (yolo, rfdetr) and one for stuff (semantic)",
    )
    parser.add_argument(
        "--map", metavar="FILE", help="of --merge: the table of classes, as the command prints it, with your changes"
    )
    parser.add_argument(
        "--size",
        metavar="WxH",
        help="input size of the network (default: that of training; of --merge 1280x720, the shape of the camera; of "
        "raft 640x192)",
    )
    parser.add_argument(
        "--updates",
        type=int,
        metavar="N",
        help="of raft: updates of the optical flow (default: 12); fewer are faster and less accurate",
    )
    parser.add_argument(
        "--clip",
        type=int,
        metavar="T",
        help="of vps and kmax: the network takes clips of T frames, near-online, with the weights that it has "
        "(default: that of training)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="O", help="of --clip: frames that two consecutive clips share (default: 1)"
    )
    parser.add_argument("--fp16", action="store_true", help="of hf and kmax: compute in half precision, for GPUs")
    parser.add_argument(
        "--taxonomy",
        metavar="NAME",
        help="of hf, kmax and panopticfcn: the data set whose classes the checkpoint has, or a JSON file of them",
    )
    parser.add_argument(
        "--task",
        choices=("panoptic", "semantic", "instance"),
        help="of hf: what the checkpoint was trained for (default: by its name and its processor, otherwise panoptic)",
    )
    parser.add_argument(
        "--classes",
        metavar="NAME|FILE",
        help="of yolo, rfdetr and semantic: coco, the data set whose classes the network has, or a file with one name "
        "per line (default of yolo: the names in the file)",
    )
    parser.add_argument(
        "--embedding",
        metavar="NODE",
        help="of yolo: a node or tensor of the network whose features, averaged over each object, describe its "
        "appearance for the tracker (default: colours of the image)",
    )
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}",
            metavar="R,G,B",
            help=f"of semantic: {name} of the normalisation, for RGB in 0..1 (default: that of ImageNet)",
        )
    parser.add_argument(
        "--layout",
        choices=("nchw", "nhwc", "map"),
        help="of semantic: the output has logits [1, C, h, w], logits [1, h, w, C], or class indices [1, h, w] "
        "(default: by its shape)",
    )
    parser.add_argument(
        "--components",
        type=int,
        metavar="PIXELS",
        help="of semantic, and of hf for semantic segmentation: connected components of thing classes are objects, "
        "from this area in pixels of the input on",
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
    parser.add_argument(
        "--batch",
        action="store_true",
        help="let the network take images of several cameras in one run, for GPUs",
    )
    parser.add_argument(
        "--kernels",
        action="store_true",
        help="masks as products of kernels and features: the model can be used with --clip-length, which fuses the "
        "kernels over clips. For models of kind panoptic-fcn, and streets with dense_things",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    path = refuse_folder(args.output, args.force)
    _check(args)
    require_training("exporting")
    with atomic_write(path) as args.output:
        (_merge if args.merge else SOURCES[args.origin])(args)
        if args.int8:
            _quantise(args)
        if args.postprocess == "graph":
            _move_postprocessing_into_graph(args)
        if args.batch:
            _allow_batch(args)
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
    if (args.checkpoint is None) == (args.merge is None):
        raise InputError("give either CHECKPOINT or --merge THINGS STUFF")
    if args.merge:
        args.origin, args.checkpoint = "merge", "+".join(args.merge)
    for name in ("mean", "std"):
        if getattr(args, name) is not None:
            setattr(args, name, _three(f"--{name}", getattr(args, name)))
    if args.components is not None and args.components < 1:
        raise InputError(f"--components {args.components}: give an area of at least 1 pixel")
    if args.camera is not None and args.postprocess != "graph":
        raise InputError("--camera is the size of a segment_map; it goes with --postprocess graph only")
    if args.kernels and (args.clip or args.postprocess == "graph"):
        raise InputError(
            "--kernels: the network takes single images, and their kernels are fused on the host; "
            "leave out --clip and --postprocess graph"
        )
    if args.int8 and args.fp16:
        raise InputError("--int8 is for CPUs and --fp16 for GPUs; choose one")
    if args.batch and args.postprocess == "graph":
        raise InputError("--batch is for models with their post-processing on the host; leave out --postprocess graph")
    if args.origin == "raft" and (args.batch or args.build_engine or args.postprocess == "graph"):
        raise InputError("--from raft: --batch, --build-engine and --postprocess graph are for segmenters only")
    clip = args.clip is not None and args.clip > 1
    if clip and (args.batch or args.postprocess == "graph"):
        raise InputError(
            "--clip: --batch and --postprocess graph are for models that take single images; leave them out"
        )
    if args.overlap is not None and not clip:
        raise InputError("--overlap is of clips; it goes with --clip T, of at least 2")
    if args.clip is not None:
        _clip(args, 1)
    if args.build_engine:
        available_providers(("tensorrt",), False)
    args.camera = None if args.camera is None else read_size(args.camera, "--camera")
    own = {
        "tune": ("vps",),
        "kernels": ("vps",),
        "clip": ("vps",),
        "size": ("vps", "merge"),
        "map": ("merge",),
        "int8": ("vps", "hf", "kmax", "panopticfcn", "onnx"),
    }
    for option in dict.fromkeys([*own, *(option for one in IMPORTERS.values() for option in one.options)]):
        named = {*own.get(option, ()), *(origin for origin, one in IMPORTERS.items() if option in one.options)}
        sources = [origin for origin in (*SOURCES, "merge") if origin in named]
        value, flag = getattr(args, option), f"--{option}"
        if value not in (None, False) and args.origin not in sources:
            origin, *others = ("--merge" if s == "merge" else f"--from {s}" for s in (args.origin, *sources))
            raise InputError(f"{origin}: {flag} goes with {' and '.join(others)} only")


def _clip(args: argparse.Namespace, frames: int) -> ClipSpec | None:
    """The clips of the file to write; None for single images. `frames`: of the clips of the checkpoint."""
    length = frames if args.clip is None else args.clip
    if not 1 <= length <= MAX_LENGTH:
        raise InputError(f"--clip {length}: give 1 to {MAX_LENGTH} frames")
    if args.overlap is not None and not 0 <= args.overlap < length:
        raise InputError(f"--overlap {args.overlap}: clips of {length} frames share 0 to {length - 1} frames")
    return None if length == 1 else ClipSpec(length, 1 if args.overlap is None else args.overlap)


def _three(option: str, text: str) -> tuple[float, float, float]:
    try:
        r, g, b = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give three numbers, as 0.485,0.456,0.406") from None
    return r, g, b


def _from_vps(args: argparse.Namespace) -> None:
    from vps_ros.learning.data.sources import source_of
    from vps_ros.learning.export.onnx_file import model_card
    from vps_ros.learning.kinds import kind_for, require_clips
    from vps_ros.learning.training.initial_weights import trained
    from vps_ros.learning.training.validation import predict, tune

    if (Path(args.checkpoint) / "config.json").is_file():
        raise InputError(f"{args.checkpoint}: a folder that transformers saved; add --from hf")
    model, recipe, step, limits = trained(Path(args.checkpoint))
    kind, reporter, data = kind_for(recipe), _reporter(), recipe.data
    clip = _clip(args, getattr(model, "frames", 1))
    if clip is not None:
        require_clips(kind, recipe)
    card = model_card(kind, recipe, step, args.size, limits, clip)
    if args.tune:
        frames = source_of(data).validation(reporter)
        if not frames:
            raise InputError("--tune: the recipe has no validation_split; leave --tune out")
        predictions = list(predict(kind, model, frames, card.input))
        limits, report = tune(predictions, reporter, data.taxonomy, kind.activation, kind.thresholds)
        card = model_card(kind, recipe, step, args.size, limits, clip)
        note(f"PQ {report.pq.all:.3f} on validation frames, things {report.pq.things:.3f}, stuff {report.pq.stuff:.3f}")
    if args.kernels and "as_kernels" not in signature(kind.export).parameters:
        raise InputError(f"--kernels: a model of kind {recipe.model.kind} has no mask kernels; leave --kernels out")
    difference = kind.export(model, card, args.output, **({"as_kernels": True} if args.kernels else {}))
    note(f"largest difference from torch {difference:.1e} of the outputs' range")


class Importer(NamedTuple):
    """A function (checkpoint, output, **options) of `vps_ros.learning` that writes a model file, and its options."""

    module: str
    function: str
    options: tuple[str, ...]


IMPORTERS = {
    "hf": Importer("hf", "import_checkpoint", ("size", "fp16", "taxonomy", "task", "components")),
    "kmax": Importer("kmax.export", "import_checkpoint", ("size", "fp16", "taxonomy", "clip")),
    "panopticfcn": Importer("panoptic_fcn.export", "import_checkpoint", ("size", "taxonomy", "kernels")),
    "raft": Importer("raft.checkpoint", "import_checkpoint", ("size", "updates")),
    "yolo": Importer("onnx_import.instances", "import_yolo", ("size", "classes", "embedding")),
    "rfdetr": Importer("onnx_import.instances", "import_rfdetr", ("size", "classes")),
    "semantic": Importer(
        "onnx_import.semantic", "import_semantic", ("size", "classes", "mean", "std", "layout", "components")
    ),
}
"""Origin of the checkpoint -> what reads it."""
_PARAMETERS = {"fp16": "half", "kernels": "as_kernels"}
"""Option -> the parameter of importers, where its name differs."""


def _import(args: argparse.Namespace) -> None:
    if args.origin == "hf":
        require_training("reading checkpoints of transformers", "transformers")
    if args.origin == "semantic" and args.classes is None:
        raise InputError("--from semantic: needs --classes, a data set such as cityscapes or a file of names")
    module, name, names = IMPORTERS[args.origin]
    function = getattr(importlib.import_module(f"vps_ros.learning.{module}"), name)
    given = {option: getattr(args, option) for option in names if getattr(args, option) is not None}
    if "clip" in given:
        given["clip"] = _clip(args, 1)
    options = {_PARAMETERS.get(option, option): value for option, value in given.items()}
    if "reporter" in signature(function).parameters:
        options["reporter"] = _reporter()
    found = function(args.checkpoint, args.output, **options)
    if hasattr(found, "differences"):
        for one in found.differences:
            largest, typical = f"at most {one.largest:.1e} of its range", f"{one.typical:.1e} of its size on average"
            note(f"{one.name}: {largest} from torch, {typical}")
    elif hasattr(found, "difference"):
        note(f"largest difference from torch {found.difference:.1e} of the outputs' range")
    else:
        _describe(found)
    if args.origin in ("hf", "semantic"):
        _note_void_things(args.output)


def _from_onnx(args: argparse.Namespace) -> None:
    found = describe_model(args.checkpoint)
    if found.card is None:
        raise InputError(found.problem)
    if isinstance(found.card, FlowCard):
        raise InputError(f"{found.path}: a network for optical flow; --from onnx takes segmenters")
    shutil.copyfile(found.path, args.output)


def _merge(args: argparse.Namespace) -> None:
    from vps_ros.learning.onnx_import.merge import default_table, merge, open_part, read_table, table_text

    things, stuff = open_part(args.merge[0], "things"), open_part(args.merge[1], "stuff")
    table = default_table(things.card.taxonomy, stuff.card.taxonomy)
    if args.map is not None:
        table = read_table(args.map, table)
    print("# Class of each model -> class of the merged model, null: void. Change it and pass it with --map FILE.")
    print(table_text(table), end="")
    _describe(merge(things, stuff, table, args.output, args.size))


def _describe(card: ModelCard) -> None:
    things = len(card.taxonomy.thing_ids)
    note(
        f"{card.name}: input {card.input.width}x{card.input.height}, {things} things and "
        f"{len(card.taxonomy) - things} stuff classes"
    )


def _note_void_things(model: str) -> None:
    """A warning for a semantic network whose things are not made of components: their threshold is 1."""
    card = describe_model(model).card
    if card is not None and not isinstance(card, FlowCard) and card.taxonomy.thing_ids and card.thresholds.thing >= 1:
        warn(
            "pixels of things become void, because a semantic network does not separate objects; add them from a "
            "network for objects with --merge, or make connected components objects with --components PIXELS"
        )


SOURCES = {"vps": _from_vps, **dict.fromkeys(IMPORTERS, _import), "onnx": _from_onnx}
"""Origin of the checkpoint -> the function that writes the model file to `args.output`."""


def _quantise(args: argparse.Namespace) -> None:
    from vps_ros.learning.data.streets import street_frames
    from vps_ros.learning.export.int8 import quantise

    images = list(progress(street_frames(), "calibration frames", _CALIBRATION_FRAMES))
    same = quantise(args.output, images, str(args.checkpoint))
    note(f"int8: {100 * same:.1f} % of the pixels of {len(images)} frames keep their class")


def _move_postprocessing_into_graph(args: argparse.Namespace) -> None:
    from vps_ros.learning.in_graph.append import move_into_graph

    camera = None if args.camera is None else (args.camera[1], args.camera[0])
    same = move_into_graph(args.output, camera, str(args.checkpoint))
    note(f"post-processing in the graph: {100 * same:.3f} % of the pixels of a frame equal those of the host")


def _allow_batch(args: argparse.Namespace) -> None:
    from vps_ros.learning.export.batch import allow_batch

    allow_batch(args.output, str(args.checkpoint))
    note("takes a batch of images, each of which gets the result that it gets alone")


def _reporter() -> Reporter:
    return Reporter(progress, note)
