"""Clip-PanoFCN (VIPSeg, sections 4 and 5.3): kernels fused over clips, on generated streets.

The network is streets-s-float, exported with `--kernels`: things have heat maps and mask kernels as in PanopticFCN, and
coordinates in the kernel. Its stuff comes from queries, whose masks are not fused. It was not trained on clips.
Things are fused if the cosine of their embeddings is at least 0.95, which was chosen on other drives. The
paper has ResNet-50, VIPSeg's validation set and 124 classes, so only the order of the rows can be compared.

Identities: "PanopticFCN" none (each segment of each frame is another object); "+Track" the tracker `appearance`
(cosine of embeddings, as the paper's similarity of kernels); "+Clip" the tubes of a clip, without a link between
clips; "+Clip and Track" both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from benchmarks._kernels import MODEL, SIMILARITY, export_kernels, needs_training
from vps_ros.ablation.degrade import VISIBLE
from vps_ros.ablation.sources import CLASSES, DriveFrame, segment_table
from vps_ros.ablation.trial import relabelled, tracked
from vps_ros.clips import FrameGroups
from vps_ros.config import Config
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.evaluation.stq import SegmentationTracking
from vps_ros.evaluation.vpq import VideoPanoptic
from vps_ros.segmenters import SegmenterParameters, load_segmenter
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker

DESCRIPTION = "Clip-PanoFCN: tracking strategies (VIPSeg table 2) and length of clips (figure 7)"
SCENARIOS, SEED, FRAMES, SIZE = ("cruise", "crowd", "occlusion"), 940_000, 16, (640, 192)
LENGTHS, TABLE_LENGTH = tuple(range(1, 9)), 3
WINDOWS = (1, 2, 4, 6)
BASE, TRACK, CLIP, BOTH = "PanopticFCN", "+Track", "+Clip", "+Clip and Track"
PAPER = {
    BASE: (25.7, 21.2, 19.6, 18.5, 21.2),
    TRACK: (25.6, 22.6, 20.4, 19.7, 22.0),
    CLIP: (25.7, 23.8, 21.6, 20.0, 22.7),
    BOTH: (25.7, 24.2, 22.5, 21.2, 23.4),
}
"""VIPSeg table 2: VPQ of WINDOWS, and their mean."""


def run(progress: Any) -> dict:
    """Figures by strategy, and by length of the clips."""
    with TemporaryDirectory() as temporary:
        try:
            model = export_kernels(Path(temporary))
        except ModuleNotFoundError as error:
            return needs_training(error)
        drives = list(progress(_drives(), "drives", len(SCENARIOS)))
        jobs = [(length, number) for length in LENGTHS for number in range(len(drives))]
        trials: dict[tuple[str, int], list[_Trial]] = {}
        segmenters = {length: _segmenter(str(model), length) for length in LENGTHS}
        for length, number in progress(jobs, "clips", len(jobs)):
            found = list(_segmented(segmenters[length], drives[number]))
            strategies = (BASE, TRACK) if length == 1 else (CLIP, BOTH)
            for name in strategies:
                trials.setdefault((name, length), []).append(_trial(found, name))
    return {
        "model": MODEL,
        "drives": [f"{scenario}-{SEED}" for scenario in SCENARIOS],
        "frames": FRAMES,
        "strategies": {name: _figures(trials[name, 1 if name in (BASE, TRACK) else TABLE_LENGTH]) for name in PAPER},
        "lengths": {str(n): _figures(trials[TRACK if n == 1 else BOTH, n]) for n in LENGTHS},
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """Table 2 with the paper's figures, and the figures that figure 7 plots."""
    columns = [*(f"VPQ {n}" for n in WINDOWS), "VPQ"]
    table = [
        [name, *(100 * one["VPQ"][str(n)] for n in WINDOWS), 100 * one["VPQ"]["mean"], 100 * one["STQ"], *PAPER[name]]
        for name, one in figures["strategies"].items()
    ]
    lengths = [
        [int(n), *(100 * one["VPQ"][str(w)] for w in WINDOWS), *(100 * one[key] for key in ("STQ", "AQ", "SQ"))]
        for n, one in figures["lengths"].items()
    ]
    where = f"{len(figures['drives'])} drives of {figures['frames']} frames"
    return [
        (
            f"tracking strategies, clips of {TABLE_LENGTH} frames, percent on {where}; right: VIPSeg table 2",
            ["method", *columns, "STQ", *(f"paper {column}" for column in columns)],
            table,
        ),
        (
            f"length of clips, with tracking, percent on {where}; in figure 7 of the paper, curves without numbers, "
            "VPQ 1 falls with the length, VPQ of longer windows is best at 3 frames, and STQ rises",
            ["frames of a clip", *(f"VPQ {n}" for n in WINDOWS), "STQ", "AQ", "SQ"],
            lengths,
        ),
    ]


class _Trial(NamedTuple):
    vpq: VideoPanoptic
    stq: SegmentationTracking


def _drives() -> Iterator[list[StreetFrame]]:
    for scenario in SCENARIOS:
        yield list(drive(scenario, SEED, FRAMES, SIZE))


def _segmenter(model: str, length: int) -> Any:
    return load_segmenter(SegmenterParameters(model=model, threads=1, clip_length=length, clip_similarity=SIMILARITY))


def _segmented(segmenter: Any, frames: Sequence[StreetFrame]) -> Iterator[DriveFrame]:
    """Frames in clips that do not overlap; their segments have tubes, whose numbers are of one clip each."""
    clips: FrameGroups[StreetFrame] = FrameGroups(segmenter.clip)
    groups = [group for group in (*map(clips.push, frames), clips.flush()) if group is not None]
    first = 1
    for group in groups:
        images = [one.frame.image for one in group.items]
        found = segmenter.segment_clip(images) if segmenter.clip.length > 1 else [segmenter(images[0])]
        for street, one in zip(group.items[group.new], found, strict=False):
            tubes = np.arange(len(one)) if one.tubes is None else one.tubes
            one = replace(one, tubes=np.where(one.is_thing, first + tubes, 0))
            truth = VISIBLE.void_small(street.semantic, street.instance, CITYSCAPES)
            yield DriveFrame(street.frame, one, segment_table(truth, one))
        first += 1 + max(int(one.tubes.max(initial=0)) if one.tubes is not None else len(one) for one in found)


def _trial(frames: Sequence[DriveFrame], strategy: str) -> _Trial:
    trial = _Trial(VideoPanoptic(CLASSES, "vipseg", WINDOWS), SegmentationTracking(CLASSES))
    tracker = make_tracker(Config(tracker="appearance").for_other_segmentations())
    for one in frames:
        segments = one.segmentation
        if strategy in (TRACK, BOTH):
            given = segments if strategy == BOTH else replace(segments, tubes=None)
            ids, _ = tracked(segments, tracker.step(one.frame, given))
        else:
            ids = segments.tubes
        table = relabelled(CLASSES, one.table, ids)
        trial.vpq.update(table)
        trial.stq.update(table)
    return trial


def _figures(trials: Sequence[_Trial]) -> dict:
    vpq = VideoPanoptic.total([one.vpq for one in trials])
    stq = SegmentationTracking.total([one.stq for one in trials])
    windows = {str(n): float(vpq.windows[n].all) for n in WINDOWS}
    return {
        "VPQ": {**windows, "mean": float(np.mean(list(windows.values())))},
        "STQ": stq.stq,
        "AQ": stq.aq,
        "SQ": stq.sq,
    }
