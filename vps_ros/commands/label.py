"""`vps-ros label`: from a recording to reviewed labels of every frame."""

from __future__ import annotations

import argparse
from pathlib import Path

from vps_ros.commands.console import note, progress, table, warn
from vps_ros.commands.options import (
    add_labelled_hz_flag,
    add_parameter_flags,
    config_from,
    labelled_hz_of,
    refuse_camera,
)
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.files import model_path
from vps_ros.flow.flow import Flow, FlowParameters, make_flow
from vps_ros.labelling.dense import label_dense
from vps_ros.labelling.exchange import import_masks
from vps_ros.labelling.export import WRITERS, export
from vps_ros.labelling.project import FRAMES, SETTINGS, Project, Settings
from vps_ros.labelling.review import ReviewServer
from vps_ros.labelling.sparse import extract, label_sparse, read_frames
from vps_ros.labelling.uncertainty import uncertainties
from vps_ros.recording.frames import open_frames
from vps_ros.segmenters import load_segmenter
from vps_ros.taxonomies import load_taxonomy

DESCRIPTION = """\
Labels of a recording, from a few frames to all of them, in a project folder. Each step can be interrupted and repeated.

  new     frames of the recording as images; sparse labels by a model, or given masks; objects are associated
  review  a local web page that shows the tracks, uncertain ones first: merge, split, re-classify, delete, accept
  status  what is reviewed, and the most uncertain tracks
  dense   accepted masks propagated to every frame by optical flow and segmenter together
  export  the labels as a data set, or for an annotation tool
  import  masks that were edited in such a tool"""
EXAMPLES = [
    "vps-ros label new drive.mcap -o project/",
    "vps-ros label new drive.mp4 -o project/ --hz 2 --model city-s --second streets-s",
    "vps-ros label new images/ -o project/ --masks maps/ --taxonomy cityscapes",
    "vps-ros label review project/",
    "vps-ros label dense project/",
    "vps-ros label export project/ -o labels/ --format kitti-step",
    "vps-ros label export project/ -o task/ --format cvat",
    "vps-ros label import project/ annotations.zip",
]
_LISTED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    new = steps.add_parser("new", help="make a project with sparse labels", description="Make a project.")
    new.add_argument("source", help="a bag, a video, or a folder of images in natural order")
    new.add_argument("-o", "--output", required=True, metavar="PROJECT", help="folder of the project")
    new.add_argument("--topic", help="image topic of a bag or number of a video stream; required if it has several")
    new.add_argument("--image-hz", type=float, metavar="HZ", help="frames per second of a folder of images")
    add_labelled_hz_flag(new)
    new.add_argument("--name", help="of the sequence in exported data sets (default: the name of the recording)")
    new.add_argument(
        "--second", metavar="M", help="another model with the same classes; where the two differ, tracks are uncertain"
    )
    new.add_argument(
        "--masks",
        metavar="DIR",
        help="given masks of the sparse frames instead of a model's: KITTI-STEP maps, named by the number of the frame",
    )
    new.add_argument("--taxonomy", metavar="NAME", help="classes of the given masks (default: those of --model)")
    _add_flow(new)
    add_parameter_flags(new)
    review = steps.add_parser("review", help="review the tracks on a web page", description="Serve the review page.")
    review.add_argument("project", metavar="PROJECT")
    review.add_argument("--port", type=int, default=0, help="of the page on 127.0.0.1; 0 takes a free one (default)")
    dense = steps.add_parser("dense", help="propagate masks to every frame", description="Propagate masks.")
    dense.add_argument("project", metavar="PROJECT")
    dense.add_argument("--all", action="store_true", help="also propagate tracks that are not accepted")
    _add_flow(dense)
    status = steps.add_parser("status", help="show what is reviewed", description="Show the state of a project.")
    status.add_argument("project", metavar="PROJECT")
    out = steps.add_parser("export", help="write a data set", description="Write the labels as a data set.")
    out.add_argument("project", metavar="PROJECT")
    out.add_argument("-o", "--output", required=True, metavar="DIR")
    out.add_argument("--format", choices=WRITERS, default="kitti-step", help="default: kitti-step")
    out.add_argument("--force", action="store_true", help="replace an output that exists")
    back = steps.add_parser(
        "import", help="use masks that were edited in CVAT or another tool", description="Use masks of a file."
    )
    back.add_argument("project", metavar="PROJECT")
    back.add_argument("file", help="CVAT for images or for video (.xml or .zip), or COCO instances (.json)")


def _add_flow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--flow-size",
        type=int,
        default=384,
        metavar="PX",
        help="height of the images for optical flow of the propagation (default: 384)",
    )
    parser.add_argument(
        "--raft", metavar="F.onnx", help="optical flow by a RAFT network instead of DIS (export --from raft)"
    )


def run(args: argparse.Namespace) -> int:
    return {"new": _new, "review": _review, "dense": _dense, "status": _status, "export": _export, "import": _import}[
        args.step
    ](args)


def flow_of(args: argparse.Namespace) -> Flow:
    """The optical flow that the flags choose."""
    height = args.flow_size
    if args.raft:
        return make_flow(FlowParameters(flow_height=height, flow="raft", flow_model=args.raft))
    return make_flow(FlowParameters(flow_height=height, flow_preset="medium"))


def _new(args: argparse.Namespace) -> int:
    config, root = config_from(args), Path(args.output)
    hz = labelled_hz_of(args)
    if args.taxonomy and not args.masks:
        raise InputError("--taxonomy: a model has classes of its own; give it with --masks only")
    if root.is_dir() and any(root.iterdir()) and not (root / SETTINGS).is_file():
        raise InputError(f"{root}: is a folder with other content; choose another output")
    second = Config(model=args.second) if args.second else None
    if second:
        model_path(second.model)
    flow = flow_of(args)
    of_model = load_segmenter(config.segmenter_parameters).taxonomy
    taxonomy = load_taxonomy(args.taxonomy) if args.taxonomy else of_model
    model = config.model if taxonomy.classes == of_model.classes else ""
    if not model:
        warn(f"{config.model} has other classes than {taxonomy.name}: masks will be propagated by optical flow alone")
    refuse_camera(args.source, "label new")
    with open_frames(args.source, topic=args.topic, hz=args.image_hz) as source:
        settings = Settings(
            recording=str(Path(args.source).resolve()),
            topic=args.topic or "",
            name=args.name or Path(args.source).resolve().stem,
            model=model,
            second=args.second or "",
            masks=args.masks or "",
            hz=hz,
            image_hz=args.image_hz or 0.0,
            taxonomy_name=taxonomy.name,
            classes=tuple(taxonomy.to_json()),
        )
        if (root / FRAMES).is_file():
            frames = read_frames(root, settings)
        else:
            frames = extract(root, settings, progress(source.frames(), "images", source.count))
        for loss in source.losses:
            warn(str(loss))
    project = label_sparse(root, settings, frames, config, second, flow, progress)
    note(f"{root}: {len(frames.stamps)} frames, {len(frames.sparse)} with labels; `vps-ros label review {root}`")
    return _show(project)


def _review(args: argparse.Namespace) -> int:
    with ReviewServer(Project(args.project), args.port) as server:
        note(f"{args.project}: {server.url} (Ctrl-C ends; every edit is saved at once)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note(f"{args.project}: every edit is saved")
    return 0


def _dense(args: argparse.Namespace) -> int:
    project = Project(args.project)
    tracks = project.state().tracks.values()
    left_out = 0 if args.all else sum(not track.accepted for track in tracks)
    if 0 < left_out < len(tracks):
        warn(f"{left_out} of {len(tracks)} tracks are not accepted; they are left out (--all takes them)")
    count = label_dense(project, flow_of(args), args.all, progress)
    if not count:
        note(f"{args.project}: every frame is labelled; there is nothing to propagate")
        return 0
    note(f"{args.project}: {count} frames by propagation from {len(project.frames.stamps) - count}")
    state = project.state()
    unsure = sorted(((project.layer_frame(state, f).uncertain, f) for f in state.layers), reverse=True)[:_LISTED]
    rows = [(f"{frame:06d}", 100 * share) for share, frame in unsure if share > 0]
    table("most uncertain frames", ("frame", "uncertain pixels %"), rows, digits=1)
    return 0


def _status(args: argparse.Namespace) -> int:
    return _show(Project(args.project))


def _show(project: Project) -> int:
    state = project.state()
    found = uncertainties(state, {frame: project.rows(state, frame) for frame in state.layers})
    accepted = sum(track.accepted for track in state.tracks.values())
    rows = [
        ("frames", len(project.frames.stamps)),
        ("frames with labels", len(state.layers)),
        ("frames confirmed", len(state.confirmed)),
        ("tracks", len(state.tracks)),
        ("tracks accepted", accepted),
    ]
    table(str(project.root), ("", "number"), [(name, str(value)) for name, value in rows])
    order = sorted(found, key=lambda n: (-found[n].value, n))
    open_ = [n for n in order if not state.tracks[n].accepted and found[n].reasons][:_LISTED]
    lines = [
        (
            n,
            project.taxonomy.class_name(state.tracks[n].class_id),
            found[n].value,
            found[n].reasons[0].frame,
            found[n].reasons[0].text,
        )
        for n in open_
    ]
    table("most uncertain tracks", ("track", "class", "uncertainty", "frame", "reason"), lines, digits=2)
    return 0


def _export(args: argparse.Namespace) -> int:
    project, output = Project(args.project), Path(args.output)
    if output.resolve() == project.root.resolve() or project.root.resolve() in output.resolve().parents:
        raise InputError(f"{output}: is inside the project; choose a folder outside")
    lacking = export(project, output, args.format, args.force, progress)
    if lacking:
        warn(f"{args.format} has no class {', '.join(lacking)}; their pixels are void")
    count = len(project.state().layers)
    note(f"{output}: {count} of {len(project.frames.stamps)} frames as {args.format}")
    return 0


def _import(args: argparse.Namespace) -> int:
    project = Project(args.project)
    frames, changed = import_masks(project, Path(args.file))
    note(f"{args.project}: {changed} of {frames} frames of {args.file} differ, and are used")
    return 0
