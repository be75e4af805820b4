"""Identity alone: the trackers on the same segments, cut from the ground truth of generated streets.

`true masks` are those of the ground truth, `poor masks` miss 12 % of the things in each frame, have ragged borders
and call 3 % by another class; neither has embeddings. AQ is that of STQ; `true identity` shows what AQ the segments
allow; `switches` counts sightings whose id differs from that of the same object's last sighting. Small far objects
count as much as near ones. `memory (paper)` is HiLA-MB with the paper's values, the online tracker of Video-kMaX.

Times are medians of one thread: of the association without flow (moving boxes, 10 % unseen, appearance of 256
numbers), beside the same equations written straight, one Hungarian over all pairs; and of the whole step with flow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from vps_ros.ablation.degrade import TRUE, Degradation, Degrader, visible_truth
from vps_ros.ablation.relabel import relabelled, tracked, true_identities
from vps_ros.ablation.sources import CLASSES, segment_table
from vps_ros.config import Config
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.evaluation.evaluator import Evaluator
from vps_ros.evaluation.overlaps import Overlaps
from vps_ros.frame import Frame, Segmentation
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import Tracker, make_tracker
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.lifecycle import Lifecycle
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.stages import MemoryStage

DESCRIPTION = "AQ and id switches of the trackers on the same segments, and their time"
SCENARIOS = ("cruise", "crowd", "occlusion", "turning", "low_rate", "night")
SEED, FRAMES, SIZE = 700_500, 60, (640, 192)
MASKS = {"true masks": TRUE, "poor masks": Degradation(missed=0.12, ragged=1.2, flicker=0.03)}
CAMERA = (1242, 375)


def memory_of_the_paper() -> Tracker:
    return CascadeTracker([MemoryStage(0.7, 0.7, 1.0, isotropic=False)], Memory(), Lifecycle())


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "hierarchical": lambda: make_tracker(Config()),
    "hierarchical, one frame back": lambda: make_tracker(Config(temporal_consistency=False)),
    "pixels alone": lambda: make_tracker(Config(location_threshold=1.0)),
    "memory (paper)": memory_of_the_paper,
}


def run(progress: Any) -> dict:
    """Figures by masks, tracker and scenario; times in milliseconds."""
    cv2.setNumThreads(1)
    quality: dict[str, Any] = {}
    jobs = [(masks, scenario) for masks in MASKS for scenario in SCENARIOS]
    for masks, scenario in progress(jobs, "drives", len(jobs)):
        for tracker, found in _judge(scenario, MASKS[masks]).items():
            quality.setdefault(masks, {}).setdefault(tracker, {})[scenario] = found
    return {"seed": SEED, "frames": FRAMES, "quality": quality, "association_ms": _association(), "step_ms": _step()}


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    found = []
    for masks, trackers in figures["quality"].items():
        columns = ["tracker", *(f"{s} AQ / switches" for s in SCENARIOS), "mean AQ", "switches"]
        rows = []
        for tracker, cells in trackers.items():
            pairs = [f"{100 * cells[s]['AQ']:.1f} / {cells[s]['switches']}" for s in SCENARIOS]
            mean = float(np.mean([100 * cells[s]["AQ"] for s in SCENARIOS]))
            rows.append([tracker, *pairs, mean, sum(cells[s]["switches"] for s in SCENARIOS)])
        found.append((f"identity on {masks}", columns, rows))
    rows = [[*name.split(", "), *times.values()] for name, times in figures["association_ms"].items()]
    found.append(("association without flow, ms a frame", ["objects", "evidence", "ours", "written straight"], rows))
    step = figures["step_ms"]
    found.append((f"one step at {CAMERA[0]}x{CAMERA[1]}, ms a frame", list(step), [list(step.values())]))
    return found


def _judge(scenario: str, masks: Degradation) -> dict[str, dict]:
    trackers = {name: make() for name, make in TRACKERS.items()}
    judges = {name: Evaluator(CITYSCAPES) for name in [*TRACKERS, "true identity"]}
    last: dict[str, dict[int, int]] = {name: {} for name in judges}
    switches: dict[str, int] = defaultdict(int)
    sightings = 0
    for frame, segmentation, table in _shots(drive(scenario, SEED, FRAMES, SIZE), masks):
        names = true_identities(CLASSES, table, len(segmentation))
        sightings += int((names > 0).sum())
        for name, judge in judges.items():
            true = name == "true identity"
            ids = names & 0xFFFFFFFF if true else tracked(segmentation, trackers[name].step(frame, segmentation))
            judge.add(scenario, relabelled(CLASSES, table, ids))
            for one, track in zip(names[names > 0].tolist(), ids[names > 0].tolist(), strict=True):
                switches[name] += last[name].get(one, track) != track
                last[name][one] = track
    return {
        name: {"AQ": judge.result().aq, "switches": switches[name], "sightings": sightings}
        for name, judge in judges.items()
    }


def _shots(frames: Iterator[StreetFrame], how: Degradation) -> Iterator[tuple[Frame, Segmentation, Overlaps]]:
    make = Degrader(how, SEED)
    for street in frames:
        truth = visible_truth(street.semantic, street.instance)
        segmentation = make(*truth)
        yield street.frame, segmentation, segment_table(truth, segmentation)


def _association() -> dict[str, dict[str, float]]:
    found = {}
    for count in (50, 200):
        for evidence, width in (("place alone", 0), ("place and appearance", 256)):
            crowd = _crowd(count, width)
            ours = CascadeTracker([MemoryStage(0.5, 0.87, 0.05)], Memory(), Lifecycle())
            image = np.zeros((CAMERA[1], CAMERA[0], 3), np.uint8)
            times: dict[str, list[float]] = {"ours": [], "straight": []}
            straight = _Straight()
            for i, segmentation in enumerate(crowd):
                began = perf_counter()
                ours.step(Frame(image, i * 10**8), segmentation)
                middle = perf_counter()
                straight.step(i * 10**8, segmentation)
                times["ours"].append(middle - began)
                times["straight"].append(perf_counter() - middle)
            found[f"{count}, {evidence}"] = {name: 1e3 * float(np.median(ts)) for name, ts in times.items()}
    return found


class _Straight:
    """HiLA-MB as its equations read: every pair compared, one Hungarian over the whole matrix."""

    def __init__(self) -> None:
        self.boxes, self.before, self.seen = np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0, int)
        self.looks: np.ndarray | None = None
        self.classes = np.zeros(0, int)

    def step(self, stamp: int, segmentation: Segmentation) -> np.ndarray:
        now = stamp // 10**8
        boxes = segmentation.boxes / np.array([*CAMERA, *CAMERA])
        looks, classes = segmentation.embeddings, segmentation.class_ids
        keep = now - self.seen <= 10
        self.boxes, self.before, self.seen = self.boxes[keep], self.before[keep], self.seen[keep]
        self.classes, self.looks = self.classes[keep], None if self.looks is None else self.looks[keep]
        moved = self.boxes + (self.boxes - self.before) * (now - self.seen)[:, None]
        similarity = np.exp(-((boxes[:, None] - moved[None]) ** 2).sum(axis=2) / 0.05)
        if looks is not None and self.looks is not None:
            ours = looks / np.linalg.norm(looks, axis=1, keepdims=True)
            similarity *= ours @ (self.looks / np.linalg.norm(self.looks, axis=1, keepdims=True)).T
        k, m = linear_sum_assignment(similarity, maximize=True)
        good = (similarity[k, m] > 0.5) & (classes[k] == self.classes[m])
        k, m = k[good], m[good]
        owner = np.full(len(boxes), -1)
        owner[k] = m
        self.before[m], self.boxes[m], self.seen[m] = self.boxes[m], boxes[k], now
        new = np.flatnonzero(owner < 0)
        owner[new] = len(self.boxes) + np.arange(len(new))
        if looks is not None:
            if self.looks is None:
                self.looks = np.zeros((0, looks.shape[1]))
            self.looks[m] = 0.2 * self.looks[m] + 0.8 * looks[k]
            self.looks = np.concatenate([self.looks, looks[new]])
        self.boxes, self.before = np.concatenate([self.boxes, boxes[new]]), np.concatenate([self.before, boxes[new]])
        self.seen = np.concatenate([self.seen, np.full(len(new), now)])
        self.classes = np.concatenate([self.classes, classes[new]])
        return owner


def _crowd(count: int, width: int, frames: int = 120) -> list[Segmentation]:
    """Boxes that wander over the image in random order; 10 % of them unseen in each frame."""
    rng = np.random.default_rng(0)
    centre, size, step = (
        rng.uniform((0, 0), CAMERA, (count, 2)),
        rng.uniform(10, 60, (count, 2)),
        rng.normal(0, 3, (count, 2)),
    )
    looks, classes = rng.normal(size=(count, width)), rng.choice([11, 13], count).astype(np.int32)
    blank = np.zeros(CAMERA[::-1], np.uint8)
    found = []
    for i in range(frames):
        who = rng.permutation(count)
        who = who[rng.random(count) > 0.1]
        at = centre[who] + step[who] * i + rng.normal(0, 1, (len(who), 2))
        boxes = np.concatenate([at - size[who] / 2, at + size[who] / 2], axis=1).astype(np.float32)
        appearance = (looks[who] + 0.3 * rng.normal(size=(len(who), width))).astype(np.float32) if width else None
        ones = np.ones(len(who), np.float32)
        areas = np.full(len(who), 500)
        found.append(Segmentation(blank, classes[who], ones > 0, ones, areas, boxes, appearance))
    return found


def _step() -> dict[str, float]:
    """A whole step at camera size: crowd, true masks."""
    tracker = make_tracker(Config())
    times: dict[str, list[float]] = {"flow": [], "all else": [], "objects": []}
    for frame, segmentation, _ in _shots(drive("crowd", SEED, 40, CAMERA), TRUE):
        began = perf_counter()
        tracker.step(frame, segmentation)
        took = 1e3 * (perf_counter() - began)
        times["flow"].append(tracker.flow_milliseconds)
        times["all else"].append(took - tracker.flow_milliseconds)
        times["objects"].append(int(segmentation.is_thing.sum()))
    return {name: float(np.median(ts)) for name, ts in times.items()}
