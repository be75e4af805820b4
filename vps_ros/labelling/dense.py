"""Accepted masks propagated to every frame, forward and backward, by flow and segmenter together.

Source: VIPSeg section 3.4, dense pixel-label propagation loop; there a network for video object segmentation moves the
masks. Here three sources vote for each pixel: the labels of the labelled frame before and of the one after, both moved
by optical flow, and the segments of the segmenter, which get the identity of the moved mask that they overlap most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.flow.flow import Flow
from vps_ros.frame import Segmentation
from vps_ros.label_maps import look_up
from vps_ros.labelling.edits import CODE, LayerFrame, SegmentRow
from vps_ros.labelling.flows import Path, paths
from vps_ros.labelling.project import Progress, Project, without_progress
from vps_ros.labelling.segments import SegmentStore, codes_of, mask_ious, rows_of, thing_map
from vps_ros.taxonomy import VOID_ID

VOID = VOID_ID * CODE
SEGMENTER_WEIGHT = 0.4
"""Vote of the segmenter; those of the two moved labels add up to 1 where their flow is reliable. Chosen."""
UNRELIABLE = 0.25
"""Vote of a moved label where its flow contradicts the reverse flow, relative to elsewhere. Chosen."""
LEAST_OVERLAP = 0.3
"""Mask IoU with a moved mask from which on a segment of the segmenter is the same object. Chosen."""
UNCERTAIN_SHARE = 0.5
"""A pixel is uncertain when its label has at most this share of the votes."""


@dataclass(frozen=True)
class Moved:
    """The labels of a labelled frame, seen from another one.

    Attributes:
        codes: int32 [H, W], class * 65536 + track id; -1 where the path leaves the image.
        trust: float32 [H, W] in 0..1.
        weight: of the vote, 0..1; the nearer the labelled frame, the larger.
    """

    codes: NDArray[np.int32]
    trust: NDArray[np.float32]
    weight: float


def label_dense(project: Project, flow: Flow, unreviewed: bool = False, progress: Progress = without_progress) -> int:
    """Propagates the masks of the labelled frames of a project to all others, as a new layer; returns their number.

    Args:
        unreviewed: also tracks that are not accepted; otherwise they are left out.
        progress: (items, label, total) -> the items.

    Raises InputError when there are tracks, but none is accepted.
    """
    state = project.state()
    if not unreviewed and state.tracks and not any(track.accepted for track in state.tracks.values()):
        raise InputError(
            f"{project.root}: no track is accepted; review them (`vps-ros label review {project.root}`), or propagate "
            "all of them with --all"
        )
    sources, count = sorted(state.sources), len(project.frames.stamps)
    if (missing := count - len(sources)) > 0:
        segment: Callable[[int], Segmentation] = partial(_nothing, project.frames.size)
        if model := project.settings.model:
            segment = SegmentStore(project.root / "segments", Config(model=model), project.image, project.taxonomy)
        labels = partial(project.labels, state, accepted_only=not unreviewed)
        found = propagate(sources, labels, count, flow, project.image, segment)
        project.add_layer("dense", progress(found, "propagate", missing))
    return missing


def _nothing(size: tuple[int, int], frame: int) -> Segmentation:
    """The result of a segmenter that finds nothing, for projects without a model."""
    width, height = size
    empty = np.zeros(0, np.float32)
    return Segmentation(
        np.zeros((height, width), np.uint8), empty.astype(np.int32), empty.astype(bool), empty, empty.astype(np.int64),
        np.zeros((0, 4), np.float32),
    )  # fmt: skip


def propagate(
    sources: Sequence[int],
    labels: Callable[[int], LabelMap],
    frames: int,
    flow: Flow,
    image: Callable[[int], NDArray[np.uint8]],
    segment: Callable[[int], Segmentation],
) -> Iterator[tuple[int, LabelMap, LayerFrame]]:
    """Labels of every frame that has none, in order.

    Args:
        sources: labelled frames, ascending; at least one.
        labels: labelled frame -> its labels, with track ids as instances.
        frames: number of all frames. Those before the first and after the last source get labels from one side.
        image: frame -> uint8 [H, W, 3] RGB.
        segment: frame -> segments of the segmenter.
    """
    gaps = [(None, sources[0]), *zip(sources, sources[1:], strict=False), (sources[-1], None)]
    for before, after in gaps:
        first = 0 if before is None else before
        last = frames - 1 if after is None else after
        if last - first < (1 if before is None or after is None else 2):
            continue
        to_first, to_last = paths(flow, image, first, last)
        codes = {end: codes_of(labels(end)) for end in (before, after) if end is not None}
        for frame in range(first, last + 1):
            if frame in codes:
                continue
            share = (frame - first) / (last - first)
            moved = []
            if before is not None:
                moved.append(_moved(codes[before], to_first[frame], 1.0 if after is None else 1 - share))
            if after is not None:
                moved.append(_moved(codes[after], to_last[frame], 1.0 if before is None else share))
            yield frame, *fuse(moved, segment(frame))


def _moved(codes: NDArray[np.int32], path: Path, weight: float) -> Moved:
    return Moved(path.warp(codes), path.trust_at(codes.shape), weight)


def fuse(moved: list[Moved], found: Segmentation) -> tuple[LabelMap, LayerFrame]:
    """The labels of one frame by the votes of one or two moved label maps and the segmenter."""
    weights = [one.weight * np.where(one.trust > 0.5, 1.0, UNRELIABLE) * (one.codes >= 0) for one in moved]
    best = moved[0].codes
    if len(moved) > 1:
        best = np.where(weights[1] > weights[0], moved[1].codes, moved[0].codes)
    best = np.where(best < 0, VOID, best)
    named = named_segments(best, found)
    candidates = [*(one.codes for one in moved), named]
    votes = [*weights, np.where(named >= 0, SEGMENTER_WEIGHT, 0.0)]
    scores = [sum(v * (c == mine) for v, c in zip(votes, candidates, strict=True)) for mine in candidates]
    top, total = np.maximum.reduce(scores), sum(votes)
    result = np.full(best.shape, VOID, np.int32)
    for mine, score in zip(reversed(candidates), reversed(scores), strict=True):
        np.copyto(result, mine, where=(score == top) & (mine >= 0))
    uncertain = float((top <= UNCERTAIN_SHARE * total).mean())
    labels = LabelMap((result // CODE).astype(np.uint8), (result % CODE).astype(np.uint16))
    return labels, LayerFrame(tuple(_rows(labels, candidates)), round(uncertain, 4))


def named_segments(codes: NDArray[np.int32], found: Segmentation) -> NDArray[np.int32]:
    """int32 [H, W]: the code of each segment of the segmenter; -1 where it has none, or shows no known object.

    A thing gets the code of the object in `codes` with the largest mask IoU.
    """
    table = np.full(len(found) + 1, -1, np.int64)
    stuff = np.flatnonzero(~found.is_thing)
    table[1 + stuff] = found.class_ids[stuff].astype(np.int64) * CODE
    objects = np.unique(codes[codes % CODE > 0])
    if len(objects) and found.is_thing.any():
        numbers = np.where(codes % CODE > 0, np.searchsorted(objects, codes) + 1, 0)
        ious = mask_ious(thing_map(found), numbers, len(found), len(objects))
        known = ious.max(1) >= LEAST_OVERLAP
        table[1:][known] = objects[ious.argmax(1)[known]]
    return look_up(found.map, table.astype(np.int32))


def _rows(labels: LabelMap, sources: list[NDArray[np.int32]]) -> Iterator[SegmentRow]:
    """The segments of a frame; their score and agreement is the least mask IoU of two sources."""
    rows = rows_of(labels)
    place = np.zeros(CODE, np.int64)
    place[[row.id for row in rows]] = np.arange(1, len(rows) + 1)
    maps = [place[np.where(codes > 0, codes % CODE, 0)] for codes in sources]
    pairs = [np.diagonal(mask_ious(a, b, len(rows), len(rows))) for i, a in enumerate(maps) for b in maps[:i]]
    for row, agreement in zip(rows, np.minimum.reduce(pairs).round(4).tolist(), strict=True):
        yield row._replace(score=agreement, agreement=agreement)
