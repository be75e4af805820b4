"""What the time of each stage is spent on (`vps-ros bench pipeline --profile`): calls, memory traffic, arithmetic.

Every stage runs on one thread with inputs of several sizes: a street's logits (_scene.py) at four sizes of the
network's input, through post-processing and tracking, and crowds of 10, 50 and 100 objects (_crowd.py) at two camera
sizes, through tracking. Its time, which leaves out that of the stages it calls, is fitted by least squares as

    time = a + b * bytes + c * objects, with no negative coefficient,

where `bytes` are those of the arrays that the stage takes and returns. At the reference (1242x375, 18 things):

- call overhead is a, what remains without data, and c * objects, if that is call overhead for each object;
- memory traffic is the time in which as many bytes are copied, at most b * bytes;
- arithmetic is the rest of b * bytes: computing, and passes over temporary arrays.

Post-processing has always 26 masks here, so its overhead for each mask is part of a. Times are processor time.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks._crowd import INTERVAL, crowd
from benchmarks._processes import limited_threads
from benchmarks._scene import street
from vps_ros import online
from vps_ros.config import Config
from vps_ros.frame import Frame
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.model_card import InputSpec, Thresholds
from vps_ros.segmenters.preprocess import fit
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker

DESCRIPTION = "share of call overhead, memory traffic and arithmetic in each stage outside the network"
POST, TRACK, HIERARCHICAL = "vps_ros.segmenters.postprocess", "vps_ros.trackers", "vps_ros.trackers.hierarchical"
STAGES = {
    "candidates and their scores": (POST, "_select_candidates"),
    "regions of masks": (POST, "regions_of"),
    "upsampling of masks": ("vps_ros.segmenters.upsampling", "Upsampling.__call__"),
    "pixels to candidates": (POST, "_assign_sigmoid"),
    "labels, areas, boxes at the camera": (POST, "labels_at_camera"),
    "rest of post-processing": (POST, "from_logits"),
    "Detections.of": (f"{TRACK}.detections", "Detections.of"),
    "flow": ("vps_ros.flow.history", "FlowHistory._composed"),
    "image for flow": ("vps_ros.flow.history", "FlowHistory.push"),
    "labels at the working size": (f"{TRACK}.masks", "label_map"),
    "labels warped by the flow": (f"{TRACK}.masks", "warp_labels"),
    "overlap of labels": (f"{TRACK}.masks", "overlap"),
    "labels moved by shifts": (f"{TRACK}.masks", "MaskHistory.shift_overlap"),
    "camera motion": (HIERARCHICAL, "camera_motion"),
    "colour histograms": (HIERARCHICAL, "colour_histograms"),
    "appearance of detections": (f"{HIERARCHICAL}.update", "HierarchicalMemory.observe"),
    "features of pairs": (HIERARCHICAL, "compare"),
    "match scorer": (f"{TRACK}.match_scorer", "MatchScorer.__call__"),
    "assignment": (HIERARCHICAL, "assign"),
    "update of the memory": (f"{TRACK}.tracker", "Tracker._update"),
    "list of tracks": (f"{TRACK}.tracker", "Tracker._tracks"),
    "rest of tracking": (f"{TRACK}.tracker", "Tracker.step"),
    "segments": ("vps_ros.online", "describe_segments"),
    "map of segment ids": ("vps_ros.online", "segment_id_map"),
}
NOT_OWN = ("flow", "image for flow")
INPUTS, REFERENCE = ((96, 320), (192, 640), (288, 960), (384, 1280)), (192, 640)
CAMERAS = {(96, 320): (621, 188), (192, 640): (1242, 375), (288, 960): (1920, 540), (384, 1280): (1920, 1080)}
CROWDS, CROWD_CAMERAS = (10, 50, 100), ((621, 188), (1242, 375))
FRAMES, WARM_UP, COPIES = 24, 4, 20
LIMITS = Thresholds(mask=0.5, overlap=0.5, mode="mask_wise")


def run(progress) -> dict:
    """Milliseconds of each stage and its parts at the reference; `progress(items, label, total)` shows the progress."""
    jobs = [("street", size, 0) for size in INPUTS] + [("crowd", c, n) for c in CROWD_CAMERAS for n in CROWDS]
    samples: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    at_reference: dict[str, tuple[float, float, float]] = {}
    with limited_threads(), _timed_stages() as watched:
        for kind, size, count in progress(jobs, "inputs", len(jobs)):
            steps = _street(size) if kind == "street" else _crowd(size, count)
            for stage, sample in _medians(steps, watched).items():
                samples[stage].append(sample)
                if (kind, size) == ("street", REFERENCE):
                    at_reference[stage] = sample
    return {"frames": FRAMES, "stages": {name: _parts(samples[name], at_reference[name]) for name in at_reference}}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    stages = figures["stages"]
    keys = ("milliseconds", "overhead", "memory", "arithmetic", "unexplained")
    found = [[name, *(one[key] for key in keys), one["mib"]] for name, one in stages.items()]
    own = [one for name, one in stages.items() if name not in NOT_OWN]
    total = ["all but flow", *(float(sum(one[key] for one in own)) for key in (*keys, "mib"))]
    return ["stage", "ms", "call overhead", "memory traffic", "arithmetic", "not in the fit", "MiB"], [*found, total]


def _street(size: tuple[int, int]) -> Iterator[Callable[[], int]]:
    """Functions that process a frame each and return the number of things."""
    outputs = street((size[0] // 4, size[1] // 4))
    width, height = CAMERAS[size]
    where = fit(InputSpec(*size), height, width)
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    tracker = make_tracker(Config())
    for i in range(FRAMES):

        def step(i: int = i) -> int:
            found = postprocess.from_logits(outputs, where, CITYSCAPES, LIMITS, "sigmoid")
            _track(tracker, Frame(image, i * INTERVAL), found)
            return int(found.is_thing.sum())

        yield step


def _crowd(size: tuple[int, int], count: int) -> Iterator[Callable[[], int]]:
    tracker = make_tracker(Config())
    for one in crowd(count, FRAMES, size):

        def step(one: Any = one) -> int:
            _track(tracker, one.frame, one.segmentation)
            return len(one.segmentation)

        yield step


def _track(tracker: Any, frame: Frame, segmentation: Any) -> None:
    segments = online.describe_segments(segmentation, tracker.step(frame, segmentation))
    online.segment_id_map(segmentation, segments)


def _medians(steps: Iterator[Callable[[], int]], watched: dict) -> dict[str, tuple[float, float, float]]:
    """(seconds, bytes, objects) of each stage in the median frame."""
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for number, step in enumerate(steps):
        watched.clear()
        objects = step()
        if number >= WARM_UP:
            for stage, (seconds, size) in watched.items():
                found[stage].append((seconds, size, objects))
    return {stage: tuple(np.median(values, axis=0).tolist()) for stage, values in found.items()}


def _parts(samples: list[tuple[float, float, float]], reference: tuple[float, float, float]) -> dict[str, float]:
    """Milliseconds of the parts of a stage at the reference."""
    seconds, size, objects = (np.array(column) for column in zip(*samples, strict=True))
    table = np.column_stack([np.ones(len(seconds)), size / max(size.max(), 1), objects / max(objects.max(), 1)])
    # Relative errors count, so that the small inputs, which show the overhead, have the same weight.
    (a, b, c), _ = nnls(table / seconds[:, None], np.ones(len(seconds)))
    by_bytes = b * reference[1] / max(size.max(), 1)
    memory = min(_copy_seconds(int(reference[1])), by_bytes)
    overhead = a + c * reference[2] / max(objects.max(), 1)
    parts = {"overhead": overhead, "memory": memory, "arithmetic": by_bytes - memory}
    return {
        "milliseconds": reference[0] * 1e3,
        **{name: value * 1e3 for name, value in parts.items()},
        "unexplained": (reference[0] - sum(parts.values())) * 1e3,
        "mib": reference[1] / 2**20,
    }


def _copy_seconds(size: int) -> float:
    """Time to copy so many bytes, half of which are read and half written."""
    source, target, times = np.ones(max(size // 2, 1), np.uint8), np.empty(max(size // 2, 1), np.uint8), []
    for _ in range(COPIES):
        began = thread_time()
        np.copyto(target, source)
        times.append(thread_time() - began)
    return float(np.median(times))


@contextmanager
def _timed_stages() -> Iterator[dict[str, tuple[float, int]]]:
    """Seconds and bytes of each stage since the dictionary was cleared, without those of the stages that it called."""
    watched: dict[str, tuple[float, int]] = {}
    inner: list[float] = []
    replaced = []
    for stage, (module, path) in STAGES.items():
        owner = importlib.import_module(module)
        *names, name = path.split(".")
        for one in names:
            owner = getattr(owner, one)
        original = vars(owner)[name]
        replaced.append((owner, name, original))
        setattr(owner, name, _timed(original, stage, watched, inner))
    try:
        yield watched
    finally:
        for owner, name, original in replaced:
            setattr(owner, name, original)


def _timed(original: Any, stage: str, watched: dict[str, tuple[float, int]], inner: list[float]) -> Any:
    function = original.__func__ if isinstance(original, classmethod) else original

    def timed(*args: Any, **kwargs: Any) -> Any:
        inner.append(0.0)
        began = thread_time()
        try:
            result = function(*args, **kwargs)
        finally:
            seconds = thread_time() - began
            own = seconds - inner.pop()
            if inner:
                inner[-1] += seconds
        before, size = watched.get(stage, (0.0, 0))
        watched[stage] = before + own, size + sum(map(_bytes, (*args, *kwargs.values(), result)))
        return result

    return classmethod(timed) if isinstance(original, classmethod) else timed


def _bytes(value: Any) -> int:
    """Bytes of an array, or of the arrays that a value holds."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (tuple, list)):
        return sum(map(_bytes, value)) if len(value) < 64 else 0
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, Frame) or hasattr(value, "class_ids"):
        return sum(map(_bytes, vars(value).values()))
    return 0
