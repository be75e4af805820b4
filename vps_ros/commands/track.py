"""`vps-ros track`: identities for per-frame panoptic maps of any segmenter."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from vps_ros.commands.console import note, progress, warn
from vps_ros.commands.options import (
    add_parameter_flags,
    add_youtube_vis_flags,
    config_from,
    jobs_of,
    youtube_vis_results,
)
from vps_ros.commands.replay import show
from vps_ros.datasets.kitti_step import save_map
from vps_ros.datasets.track_inputs import FrameFiles, pair_files
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_existing, write_json
from vps_ros.offline import LoadedFrame, TrackedMap, load, track_maps, track_maps_with_lookahead
from vps_ros.parallel import in_order
from vps_ros.parameters import declared
from vps_ros.recording.image_files import DEFAULT_HZ, check_hz
from vps_ros.recording.replay import Summary
from vps_ros.segmenters import SegmenterParameters
from vps_ros.taxonomy import KITTI_STEP, TAXONOMIES, Taxonomy

DESCRIPTION = """\
Give the objects of per-frame panoptic maps identities that are constant over time. The maps may be of any segmenter.
Reads SEGMENTATION/SEQUENCE/FRAME.png and IMAGES/SEQUENCE/FRAME.png (or .jpg), writes OUT/SEQUENCE/FRAME.png.

kitti-step: 8-bit RGB PNG, R the class (255 void), G * 256 + B the instance. In the input, instances separate the
objects of one frame and have no meaning in other frames. In the output, an object has the same instance in all frames
of its sequence, from 1. A thing with instance 0 is a crowd, several objects that are not separated: it is written
unchanged and not tracked. Void stays void. Stuff has instance 0.
With --clip-length T the input is of a segmenter for clips: within T consecutive frames an object has one instance."""
EXAMPLES = [
    "vps-ros track --images kitti/image_02 --segmentation maps/ -o tracked/",
    "vps-ros track --images images/ --segmentation maps/ -o tracked/ --clip-length 2",
    "vps-ros track --images images/ --segmentation maps/ -o tracked/ --youtube-vis results.json",
    "vps-ros track --images images/ --segmentation maps/ --embeddings vectors/ -o tracked/ --json figures.json",
    "vps-ros track --images streets/ --segmentation streets/ -o tracked/ --taxonomy cityscapes --memory-tau 20",
]
FORMATS = {"kitti-step": KITTI_STEP}
"""Format -> the taxonomy of its benchmark."""
MARKER = "track.json"
"""File in the output folder with the tracker and its input; a folder with this file may be replaced."""
_MAX_THREADS = 4
"""The tracker processes one frame at a time: more threads would only keep more frames in memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", required=True, metavar="DIR", help="camera images: SEQUENCE/FRAME.png or .jpg")
    parser.add_argument("--segmentation", required=True, metavar="DIR", help="panoptic maps: SEQUENCE/FRAME.png")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the maps with identities")
    parser.add_argument("--format", choices=FORMATS, default="kitti-step", help="of the maps (default: kitti-step)")
    parser.add_argument(
        "--embeddings",
        metavar="DIR",
        help="appearance of the segments: SEQUENCE/FRAME.npz with ids [K] (class * 65536 + instance) and embeddings "
        "[K, D]; without it, colour histograms of the image are used",
    )
    parser.add_argument(
        "--taxonomy",
        choices=TAXONOMIES,
        help="which classes are things: kitti-step person and car (the benchmark's, the default), "
        "cityscapes every road user (the generated streets)",
    )
    parser.add_argument("--split", help="take only this split of the data set (train, val)")
    parser.add_argument(
        "--hz", type=float, default=DEFAULT_HZ, help=f"frames per second of the images (default: {DEFAULT_HZ:g})"
    )
    parser.add_argument("--json", metavar="F", help="also write the figures as JSON")
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help=f"threads that read and write; 0 takes one for each core, {_MAX_THREADS} at most (default)",
    )
    parser.add_argument(
        "--lookahead",
        action="store_true",
        help="decide the identities of a sequence after its last frame: fewer id switches. Reads each frame twice",
    )
    add_youtube_vis_flags(parser)
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    add_parameter_flags(parser, unused={p.name for p in declared(SegmenterParameters)} - {"clip_length"})


def run(args: argparse.Namespace) -> int:
    config = config_from(args)
    check_hz(args.hz)
    jobs = jobs_of(args, _MAX_THREADS)
    output = Path(args.output)
    _refuse_inputs(output, args.images, args.segmentation, args.embeddings)
    refuse_existing(output, args.force, MARKER)
    taxonomy = TAXONOMIES[args.taxonomy] if args.taxonomy else FORMATS[args.format]
    frames, spare = pair_files(args.segmentation, args.images, args.embeddings, args.split)
    if spare:
        note(f"{args.images}: {len(spare)} sequence(s) without maps left out: {', '.join(spare)}")

    summary, crowds, stuff = Summary(), Counter[int](), Counter[int]()
    with ExitStack() as stack:
        results = stack.enter_context(youtube_vis_results(args))
        draft = stack.enter_context(atomic_write(output, args.force, MARKER))

        def write(tracked: TrackedMap) -> TrackedMap:
            save_map(draft / tracked.files.sequence / f"{tracked.files.frame}.png", tracked.semantic, tracked.instance)
            return tracked

        began = perf_counter()

        def read(files: Iterable[FrameFiles]) -> Iterator[LoadedFrame]:
            return in_order(load, files, jobs)

        if args.lookahead:
            tracked_maps = track_maps_with_lookahead(frames, read, config, taxonomy, args.hz)
        else:
            tracked_maps = track_maps(read(frames), config, taxonomy, args.hz)
        done = in_order(write, tracked_maps, jobs)
        for tracked in progress(done, "track", len(frames)):
            summary.add(tracked.milliseconds, ((tracked.files.sequence, t.track_id) for t in tracked.tracks))
            crowds.update(tracked.segments.crowds)
            stuff.update(tracked.segments.numbered_stuff)
            if results is not None:
                seen = (t for t in tracked.tracks if t.index >= 0)
                objects = ((t.track_id, t.class_id, t.score, tracked.instance == t.track_id) for t in seen)
                results.add(tracked.files.sequence, taxonomy, tracked.instance.shape, objects)
        summary.seconds = perf_counter() - began
        figures = summary.to_json()
        made = {
            "tracker": config.tracker,
            "lookahead": args.lookahead,
            "taxonomy": taxonomy.name,
            "embeddings": args.embeddings is not None,
        }
        write_json(draft / MARKER, {**made, "frames": figures["frames"], "tracks": figures["tracks"]})
    if args.json:
        write_json(args.json, figures)
    _warn_untracked(
        crowds,
        taxonomy,
        "things with instance 0 are crowd and were not tracked ({}); number objects from 1 to track them",
    )
    _warn_untracked(
        stuff,
        taxonomy,
        "stuff had instances, which were dropped ({}); choose a --taxonomy in which these classes are things to track "
        "them",
    )
    show(figures, f"{Path(args.segmentation).resolve().name} -> {args.output}, {config.tracker}")
    return 0


def _warn_untracked(frames: Counter[int], taxonomy: Taxonomy, problem: str) -> None:
    """Warns of instances that are not tracked; `frames`: class -> number of frames, `problem` contains the place {}."""
    if frames:
        named = ", ".join(f"{taxonomy.by_id[c].name} in {count} frame(s)" for c, count in sorted(frames.items()))
        warn(problem.format(named))


def _refuse_inputs(output: Path, *inputs: str | None) -> None:
    """Refuses an output that is, or contains, an input, because the output replaces the folder."""
    for given in filter(None, inputs):
        if output.resolve() in (Path(given).resolve(), *Path(given).resolve().parents):
            raise InputError(f"{output}: contains the input {given}; choose another output")
