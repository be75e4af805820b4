"""Time of tracking (association, flow and masks), and memory over a long run.

Objects move over a synthetic image of 1242x375; each has no segment in 10 % of the frames; embeddings have 256 numbers.
`association` is the step of a tracker without everything that reads pixels, on one BLAS thread. It is compared with
roboflow's trackers on the same boxes in the same run; BoT-SORT is without its compensation of the camera's motion,
which is compared with our flow instead. Flow, masks and other work on the image run on two cores. All figures are of
the step as its caller sees it, from segmentation to tracks.

For the memory, ten objects are visible, and all are replaced after three frames; the number of remembered objects must
depend on tau, not on the length of the run.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import _roboflow
from benchmarks._crowd import INTERVAL, CrowdFrame, crowd, segmented
from benchmarks._processes import limited_threads, memory_mib, milliseconds
from benchmarks._roboflow import Roboflow
from benchmarks._watch import PIXELS, of_the_image, watch
from vps_ros.commands.console import note
from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers import TRACKERS, tracker_class

DESCRIPTION = (
    "ms per frame of association, and of flow and masks, compared with roboflow's trackers; memory over 200,000 frames"
)
CAMERA, COUNTS = (1242, 375), (50, 200)
FRAMES, WARM_UP, REPEATS = 60, 15, 5
PARTS = ("association", "flow", "masks", "flow_and_masks", "image", "step")
GOAL_MS = {50: 0.6, 200: 2.0}
PIXELS_GOAL_MS, PIXELS_CORES = 6.0, 2
CHURN = {"hierarchical": 200_000, **{name: 10_000 for name in TRACKERS if name != "hierarchical"}}
CHURN_THEIRS = {"roboflow ByteTrack": 10_000, "roboflow BoT-SORT": 10_000}
MARKED = ("frames", "rows", "most_rows", "rss_mib")
CHURN_MARKS, CHURN_CYCLE, CHURN_OBJECTS, CHURN_LIFE, CHURN_SIZE = 10, 300, 10, 3, (96, 48)


def run(progress: Any) -> dict:
    """Figures by tracker: milliseconds a frame, rows of the memory and bytes."""
    theirs = _roboflow.there()
    if not theirs:
        note(_roboflow.MISSING)
    with limited_threads(PIXELS_CORES):
        times = {count: _times(progress, count, theirs) for count in COUNTS}
        memory = _memory(progress, theirs)
    return {"camera": list(CAMERA), "frames": FRAMES, "repeats": REPEATS, "times_ms": times, "memory": memory}


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    found = []
    for count, one in figures["times_ms"].items():
        seen = f"{count} objects ({one['seen']:.0f} seen in the median frame)"
        rows = [[name, t["association"]["median"], t["association"]["p90"]] for name, t in one["trackers"].items()]
        title = f"association of {seen}, ms a frame; goal {GOAL_MS[int(count)]} in the median"
        found.append((title, ["tracker", "median", "p90"], rows))
        rows = [
            [name, *(t[part]["median"] for part in PARTS[1:]), t["step"]["p90"]]
            for name, t in one["trackers"].items()
            if t.get("flow_and_masks", {}).get("median", 0) > 0
        ]
        title = f"pixels of {seen} on {PIXELS_CORES} cores, ms a frame; goal {PIXELS_GOAL_MS} for flow and masks"
        columns = ["tracker", "flow", "masks", "flow and masks", "colours, camera", "step", "step, p90"]
        found.append((title, columns, rows))
    rows = []
    for name, one in figures["memory"].items():
        last = len(one["frames"]) - 1
        for i in (0, last // 2, last):
            rows.append([name, *(one[key][i] for key in MARKED)])
    columns = ["tracker", "frames", "objects in memory", "most so far", "resident MiB"]
    found.append(("memory while every object is another after three frames", columns, rows))
    return found


def _times(progress: Any, count: int, theirs: bool) -> dict:
    frames = list(progress(crowd(count, FRAMES, CAMERA), f"crowd of {count}", FRAMES))
    jobs = [(name, repeat) for repeat in range(REPEATS) for name in TRACKERS]
    samples: dict[str, dict[str, list[float]]] = {}
    for name, _ in progress(jobs, f"trackers, {count} objects", len(jobs)):
        _add(samples, name, _ours(name, frames))
    if theirs:
        jobs = [(name, repeat) for repeat in range(REPEATS) for name in _roboflow.NAMES]
        for name, _ in progress(jobs, f"roboflow's, {count} objects", len(jobs)):
            _add(samples, name, _theirs(name, frames))
    return {
        "seen": float(np.median([len(frame.segmentation) for frame in frames])),
        "trackers": {
            name: {
                part: {"median": float(np.median(ms)), "p90": float(np.percentile(ms, 90))}
                for part, ms in parts.items()
            }
            for name, parts in samples.items()
        },
    }


def _ours(name: str, frames: Sequence[CrowdFrame]) -> dict[str, list[float]]:
    """Runs the drive twice: as it is, and with the recorded results of flow and masks, to measure association alone."""
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    results = []
    with watch(*PIXELS, *of_the_image()) as watched:
        tracker = tracker_class(name)()
        for frame in frames:
            watched.start()
            step = milliseconds(partial(tracker.step, frame.frame, frame.segmentation))
            results.append(watched.results)
            pixels, flow, image = watched.milliseconds, tracker.milliseconds["flow"], watched.in_functions
            values = (flow, pixels - flow - image, pixels - image, image, step)
            for part, value in zip(PARTS[1:], values, strict=True):
                times[part].append(value)
        tracker = tracker_class(name)()
        for frame, result in zip(frames, results, strict=True):
            watched.start(result)
            times["association"].append(milliseconds(partial(tracker.step, frame.frame, frame.segmentation)))
    return {part: values[WARM_UP:] for part, values in times.items()}


def _theirs(name: str, frames: Sequence[CrowdFrame]) -> dict[str, list[float]]:
    """Without the image, and BoT-SORT with it as well: `flow` is what its compensation of the camera's motion takes."""
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    tracker = Roboflow(name)
    for frame in frames:
        times["association"].append(milliseconds(tracker.see(frame.frame, frame.segmentation)))
    if name == "roboflow BoT-SORT":
        tracker = Roboflow(name, camera_motion=True)
        with watch(_roboflow.package().CMC) as watched:
            for frame in frames:
                track = tracker.see(frame.frame, frame.segmentation)
                watched.start()
                step = milliseconds(track)
                motion = watched.milliseconds
                for part, value in zip(PARTS[1:], (motion, 0.0, motion, 0.0, step), strict=True):
                    times[part].append(value)
    return {part: values[WARM_UP:] for part, values in times.items() if values}


def _memory(progress: Any, theirs: bool) -> dict:
    cycle = list(_churn())
    found = {}
    for name, frames in CHURN.items():
        tracker = tracker_class(name)()
        found[name] = _long_run(progress, name, frames, cycle, lambda f, s, t=tracker: len(t.step(f, s)))
    for name, frames in CHURN_THEIRS.items() if theirs else ():
        found[name] = _long_run(progress, name, frames, cycle, partial(_rows_of, Roboflow(name)))
    return found


def _rows_of(tracker: Roboflow, frame: Frame, segmentation: Segmentation) -> int:
    tracker.see(frame, segmentation)()
    return len(tracker.tracker.tracks)


def _long_run(progress: Any, name: str, frames: int, cycle: Sequence[CrowdFrame], step: Any) -> dict:
    """What is remembered, and how much memory the process has, at so many marks."""
    marks: dict[str, list] = {key: [] for key in MARKED}
    every, most = frames // CHURN_MARKS, 0
    began = perf_counter()
    for i in progress(range(frames), f"{name}, {frames:,} frames", frames):
        frame = cycle[i % len(cycle)]
        rows = step(Frame(frame.frame.image, i * INTERVAL), frame.segmentation)
        most = max(most, rows)
        if (i + 1) % every == 0:
            gc.collect()
            for key, value in zip(marks, (i + 1, rows, most, memory_mib()), strict=True):
                marks[key].append(value)
    return {**marks, "seconds": perf_counter() - began}


def _churn() -> Iterator[CrowdFrame]:
    """Frames whose objects are all others after CHURN_LIFE of them: other places and embeddings, another class."""
    width, height = CHURN_SIZE
    rng = np.random.default_rng(0)
    for i in range(CHURN_CYCLE):
        if i % CHURN_LIFE == 0:
            corner = rng.integers(0, (width - 12, height - 12), (CHURN_OBJECTS, 2))
            # A class comes again only when its last objects are forgotten.
            classes = np.full(CHURN_OBJECTS, 11 + i // CHURN_LIFE % 8, np.int32)
            appearance = rng.normal(size=(CHURN_OBJECTS, 32))
        labels = np.zeros((height, width), np.int32)
        for number, (x, y) in enumerate(corner, 1):
            labels[y : y + 12, x : x + 12] = number
        names = rng.permutation(np.flatnonzero(np.bincount(labels.ravel(), minlength=CHURN_OBJECTS + 1)[1:]))
        image = rng.integers(0, 255, (height, width, 3), np.uint8)
        yield CrowdFrame(Frame(image, 0), segmented(labels, names, classes[names], appearance[names]), names)


def _add(samples: dict, name: str, times: dict[str, list[float]]) -> None:
    for part, values in times.items():
        samples.setdefault(name, {}).setdefault(part, []).extend(values)
