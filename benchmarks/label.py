"""How many corrections a recording needs until its labels have STQ 95: `vps-ros label` beside frame by frame.

Generated drives of 31 frames at 10 frames/s, 640x192, labelled by streets-s. Ground truth takes the place of the
person. A segment (an object, or all pixels of a class of stuff) is corrected where the IoU with its true mask and
identity is below 0.95: its mask is drawn again, which is one correction. So is the removal of a segment that shows
nothing true. Things under 50 px are void, and void is left out.

Frame by frame: the pipeline with its default tracker labels every frame; the frames are corrected in their order.

vps-ros label: at 1 frame/s, tracks are merged, split, re-classified and deleted (one correction each), and masks are
drawn. Labels are propagated to all frames; then, in the six gaps between labelled frames that are most uncertain, the
frame with most uncertain pixels is corrected and confirmed, and labels are propagated again, until STQ is 95. Accepted
tracks are counted by themselves, since nothing is changed there.

Segments that are right to IoU 0.95 are left as they are, so that a drive whose frames are all corrected may stay below
STQ 95; then the figures are those of all frames.
"""

from __future__ import annotations

import itertools
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.datasets.labels import LabelMap, MinimumSize
from vps_ros.datasets.streets import drive
from vps_ros.evaluation import Evaluator
from vps_ros.flow.flow import FlowParameters, make_flow
from vps_ros.frame import Frame
from vps_ros.labelling.dense import label_dense
from vps_ros.labelling.edits import (
    CODE,
    Accept,
    Change,
    Classify,
    Confirm,
    Delete,
    LayerFrame,
    Merge,
    Split,
    State,
)
from vps_ros.labelling.project import Project, Settings
from vps_ros.labelling.segments import codes_of, rows_of
from vps_ros.labelling.sparse import extract, label_sparse
from vps_ros.messages.panoptic import class_and_track_maps
from vps_ros.online import OnlinePanoptic
from vps_ros.taxonomy import CITYSCAPES, VOID_ID

DESCRIPTION = "corrections until the labels of a recording have STQ 95"
DRIVES = (("cruise", 900_106), ("occlusion", 900_201))
FRAMES, SIZE, MODEL = 31, (640, 192), "streets-s"
TARGET, LEAST_IOU, SMALLEST = 0.95, 0.95, MinimumSize(50)
FRAMES_A_ROUND = 6


def run(progress) -> dict:
    """Figures by drive; `progress(items, label, total)` shows how far it is."""
    # Spawned: a process forked after a network has started threads may hang.
    with ProcessPoolExecutor(len(DRIVES), mp_context=get_context("spawn")) as pool:
        found = dict(progress(pool.map(one_drive, DRIVES), "drives", len(DRIVES)))
    return {"frames": FRAMES, "drives": found}


def one_drive(which: tuple[str, int]) -> tuple[str, dict]:
    """Name and figures of one drive."""
    name, seed = which
    frames, truth = [], []
    for street in drive(name, seed, FRAMES, SIZE):
        frames.append(street.frame)
        truth.append(LabelMap(*SMALLEST.void_small(street.semantic, street.instance, CITYSCAPES)))
    return f"{name} {seed}", {
        "segments": sum(len(_segments(one)) for one in truth),
        "frame by frame": frame_by_frame(frames, truth),
        "label": with_projects(frames, truth),
    }


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people."""
    columns = ["drive", "method", "true segments", "STQ before", "STQ after", "edits of tracks", "masks drawn"]
    columns += ["corrections", "frames looked at", "tracks accepted"]
    lines: list[list[object]] = []
    for name, one in figures["drives"].items():
        for method in ("frame by frame", "label"):
            f = one[method]
            lines.append(
                [name, "vps-ros label" if method == "label" else method, one["segments"]]
                + [100 * f["before"], 100 * f["after"], f["edits"], f["masks"], f["edits"] + f["masks"]]
                + [f["frames"], f["accepted"]]
            )
    return columns, lines


def stq(truth: list[LabelMap], labels: list[LabelMap]) -> float:
    """STQ outside of void, which objects are in frames where they are small."""
    evaluator = Evaluator(CITYSCAPES, video=False)
    for true, found in zip(truth, labels, strict=True):
        void = true.semantic == VOID_ID
        semantic, instance = np.where(void, VOID_ID, found.semantic), np.where(void, 0, found.instance)
        evaluator.update("drive", *true, semantic, instance)
    return float(evaluator.result().stq)


def frame_by_frame(frames: list[Frame], truth: list[LabelMap]) -> dict:
    """The frames in their order, each corrected completely, until the recording has the quality."""
    pipeline = OnlinePanoptic(Config(model=MODEL))
    labels = [LabelMap(*class_and_track_maps(pipeline.step(frame))) for frame in frames]
    labels = [LabelMap(one.semantic.astype(np.uint8), one.instance.astype(np.int64)) for one in labels]
    # A track is the object that it shows first; numbers of objects and of tracks must not collide.
    owner: dict[int, int] = {}
    corrected, drawn = [], []
    for found, true in zip(labels, truth, strict=True):
        for track, object_ in _objects(found.instance, true).items():
            owner.setdefault(track, object_ or -track)
        track_of = {object_: track for track, object_ in reversed(owner.items())}
        # A new object gets a number that no track has.
        one, count = corrected_labels(true, found, owner, track_of, lambda object_: 1_000_000 + object_)
        for object_, track in track_of.items():
            owner.setdefault(track, object_)
        corrected.append(one)
        drawn.append(count)

    def after(looked: int) -> float:
        return stq(truth, corrected[:looked] + labels[looked:])

    # The quality increases with the corrected frames, so the first count that reaches the target is found by bisection.
    looked = bisect_left(range(len(frames)), TARGET, key=after)
    return {
        "before": after(0),
        "after": after(looked),
        "edits": 0,
        "masks": sum(drawn[:looked]),
        "frames": looked,
        "accepted": 0,
    }


def with_projects(frames: list[Frame], truth: list[LabelMap]) -> dict:
    """The steps of `vps-ros label`, through the same functions as the command and the page."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Settings("", "", "drive", MODEL, "", "", 1.0, 0.0, CITYSCAPES.name, tuple(CITYSCAPES.to_json()))
        flow = make_flow(FlowParameters(flow_height=SIZE[1], flow_preset="medium"))
        found = extract(root, settings, frames)
        project = label_sparse(root, settings, found, Config(model=MODEL), None, flow)
        before = _propagated(project, flow, truth, unreviewed=True)
        # The labels before any correction are for comparison only.
        project = label_sparse(root, settings, found, Config(model=MODEL), None, flow)
        edits = correct_tracks(project, truth)
        masks = correct_masks(project, truth, found.sparse)
        looked = set(found.sparse)
        after = _propagated(project, flow, truth)
        while after < TARGET and len(looked) < len(frames):
            state = project.state()
            chosen = _next_frames(project, state)
            masks += correct_masks(project, truth, chosen)
            looked |= set(chosen)
            after = _propagated(project, flow, truth)
        accepted = len(project.state().tracks)
    return {
        "before": before,
        "after": after,
        "edits": edits,
        "masks": masks,
        "frames": len(looked),
        "accepted": accepted,
    }


def _next_frames(project: Project, state: State) -> tuple[int, ...]:
    """The most uncertain frame of each gap between labelled frames, for the gaps that are most uncertain."""
    known = sorted(state.sources)
    gaps = [range(a + 1, b) for a, b in zip(known, known[1:], strict=False) if b > a + 1]
    uncertain = {f: project.layer_frame(state, f).uncertain for gap in gaps for f in gap}
    # Of equal frames, the one in the middle is best for the propagation.
    best = [max(gap, key=lambda f: (uncertain[f], -abs(f - gap[len(gap) // 2]))) for gap in gaps]
    best.sort(key=lambda f: (-uncertain[f], f))
    return tuple(sorted(best[:FRAMES_A_ROUND]))


def _propagated(project: Project, flow, truth: list[LabelMap], unreviewed: bool = False) -> float:
    label_dense(project, flow, unreviewed)
    state = project.state()
    return stq(truth, [project.labels(state, frame) for frame in range(len(truth))])


def correct_tracks(project: Project, truth: list[LabelMap]) -> int:
    """Edits that give every track one true object and its class; returns their number. Accepts all tracks."""
    count = 0

    def edit(change: Change) -> None:
        nonlocal count
        project.append([change])
        count += 1

    state = project.state()
    frames = sorted(state.sources)
    objects = {f: _objects(project.labels(state, f).instance, truth[f]) for f in frames}
    owner: dict[int, tuple[int, ...]] = {}
    for number in sorted(state.tracks):
        seen = [f for f in frames if f in state.tracks[number].segments]
        shown = [objects[f][number] for f in seen]
        current, start = number, 0
        for i in range(1, len(seen) + 1):
            if i < len(seen) and shown[i] == shown[start]:
                continue
            if i < len(seen):
                new = project.state().next_id
                edit(Split(current, seen[i]))
            else:
                new = 0
            if shown[start]:
                owner[current] = (shown[start],)
            else:
                edit(Delete(current))
            current, start = new, i
    first: dict[int, int] = {}
    for number, (object_,) in sorted(owner.items()):
        if object_ in first:
            edit(Merge(first[object_], number))
        else:
            first[object_] = number
    classes = _classes(truth)
    for object_, number in first.items():
        if project.state().tracks[number].class_id != classes[object_]:
            edit(Classify(number, classes[object_]))
    project.append([Accept(number) for number in project.state().tracks])
    return count


def correct_masks(project: Project, truth: list[LabelMap], frames: tuple[int, ...]) -> int:
    """Draws the masks of frames that are not right, and confirms the frames; returns the number of masks drawn."""
    state = project.state()
    votes: dict[int, Counter[int]] = {}
    for frame in state.layers:
        for number, object_ in _objects(project.labels(state, frame).instance, truth[frame]).items():
            votes.setdefault(number, Counter())[object_] += 1
    owner = {number: vote.most_common(1)[0][0] or -number for number, vote in votes.items()}
    track_of = {object_: number for number, object_ in reversed(owner.items())}
    following, count = itertools.count(state.next_id), 0
    layer = []
    for frame in frames:
        labels = project.labels(state, frame)
        corrected, drawn = corrected_labels(truth[frame], labels, owner, track_of, lambda _: next(following))
        count += drawn
        corrected = LabelMap(corrected.semantic, corrected.instance.astype(np.uint16))
        layer.append((frame, corrected, LayerFrame(rows_of(corrected))))
    project.add_layer("import", layer)
    open_ = [Accept(n) for n, track in project.state().tracks.items() if not track.accepted]
    project.append([*open_, *map(Confirm, frames)])
    return count


def corrected_labels(
    true: LabelMap, labels: LabelMap, owner: dict[int, int], track_of: dict[int, int], new: Callable[[int], int]
) -> tuple[LabelMap, int]:
    """As corrected_frame, for labels whose instances are tracks.

    Args:
        owner: track -> number of its true object; negative or absent where it has none.
        track_of: the inverse; objects without a track are added, with the track that `new` gives.
    """
    table = np.array([0, *(owner.get(t, -t) for t in range(1, int(labels.instance.max()) + 1))])
    corrected, drawn = corrected_frame(true, LabelMap(labels.semantic, table[labels.instance]))
    ids = np.unique(corrected.instance)
    for object_ in ids[ids > 0].tolist():
        if object_ not in track_of:
            track_of[object_] = new(object_)
    numbers = np.array([track_of[i] if i > 0 else -i for i in ids.tolist()])
    return LabelMap(corrected.semantic, numbers[np.searchsorted(ids, corrected.instance)]), drawn


def corrected_frame(true: LabelMap, labels: LabelMap) -> tuple[LabelMap, int]:
    """The labels after every segment that is not right was drawn again, and how many were.

    Args:
        labels: instances are numbers of true objects; other numbers are negative.
    """
    semantic, instance = labels.semantic.copy(), labels.instance.astype(np.int64)
    known = true.semantic != VOID_ID
    count, wanted_keys = 0, _segments(true)
    found = LabelMap(labels.semantic, np.where(CITYSCAPES.thing_table[labels.semantic], labels.instance, 0))
    for class_id, object_ in wanted_keys:
        wanted = (true.semantic == class_id) & (true.instance == object_)
        mine = (found.semantic == class_id) & (found.instance == object_) & known
        if (wanted & mine).sum() < LEAST_IOU * (wanted | mine).sum():
            area = wanted | mine
            semantic[area], instance[area] = true.semantic[area], true.instance[area]
            count += 1
    left = LabelMap(semantic, np.where(CITYSCAPES.thing_table[semantic], instance, 0))
    keys = {tuple(key) for key in np.unique(np.stack([left.semantic[known], left.instance[known]]), axis=1).T.tolist()}
    for class_id, object_ in sorted(keys - set(wanted_keys)):
        area = (left.semantic == class_id) & (left.instance == object_) & known
        if class_id != VOID_ID and area.sum() >= SMALLEST.area:
            semantic[area], instance[area] = true.semantic[area], true.instance[area]
            count += 1
    return LabelMap(semantic, instance), count


def _segments(true: LabelMap) -> list[tuple[int, int]]:
    return [divmod(code, CODE) for code in np.unique(codes_of(true)).tolist() if code // CODE != VOID_ID]


def _objects(instance: NDArray[np.integer], true: LabelMap) -> dict[int, int]:
    """Track -> the true object that has most of its pixels, 0 where none has half of them."""
    found = {}
    for number in np.unique(instance[instance > 0]).tolist():
        values, counts = np.unique(true.instance[instance == number], return_counts=True)
        best = counts.argmax()
        found[number] = int(values[best]) if counts[best] >= 0.5 * counts.sum() else 0
    return found


def _classes(truth: list[LabelMap]) -> dict[int, int]:
    return {object_: class_id for one in truth for class_id, object_ in _segments(one) if object_}
