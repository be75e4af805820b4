"""Error and time of each optical flow on generated drives, and the identities that follow from it.

Two drives of 24 frames. The error is the end-point error of the flow from each image to the one before it, against the
exact flow, which generated drives have. A pixel is occluded where its point was outside of the previous image, or
covered there by another segment. Identities are those of trackers that get true masks; `iou` is `mask_propagation`
without flow. Time is processor time on one thread. Farneback's method, in OpenCV with the parameters of its
documentation, is the alternative to DIS. RAFT has random weights here, because trained ones are not included: only its
time is valid, so errors and identities are left out.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._processes import limited_threads
from vps_ros.ablation.degrade import TRUE, VISIBLE, Degrader
from vps_ros.ablation.sources import DriveFrame, segment_table
from vps_ros.ablation.trial import figures
from vps_ros.ablation.trial import run as run_tracker
from vps_ros.config import Config
from vps_ros.datasets.streets import HELD_OUT, StreetFrame, drive
from vps_ros.flow.flow import FLOWS, PRESETS, Flow, FlowParameters, make_flow
from vps_ros.flow.history import FlowHistory
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker

DESCRIPTION = "end-point error, identities and time of each optical flow"
SCENARIOS, SEED, FRAMES, SIZE = ("crowd", "low_rate"), HELD_OUT.start, 24, (640, 192)
TRACKERS = ("mask_propagation", "pixel")
ALONE = "without flow (iou)"
METRICS = ("AQ", "IDF1")
PARTS = ("all", "things", "not occluded", "occluded", "below 4 px", "4 to 16 px", "over 16 px")
"""Sets of pixels; the last three by the length of the true flow."""
RAFTS = (("RAFT-S", "small", 4), ("RAFT-S", "small", 12), ("RAFT", "large", 12))
TIMED_PAIRS = 3


class Farneback(Flow):
    """Optical flow by polynomial expansion (Farneback, 2003), in OpenCV."""

    uses_guess = False

    @classmethod
    def of(cls, parameters: FlowParameters) -> Farneback:
        return cls(parameters.flow_height)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

    def __call__(
        self, source: NDArray[np.uint8], target: NDArray[np.uint8], guess: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        return cv2.calcOpticalFlowFarneback(source, target, None, 0.5, 3, 15, 3, 5, 1.2, 0)


@limited_threads()
def run(progress: Any) -> dict:
    """Figures by flow; `progress(items, label, total)` shows how far it is."""
    FLOWS["farneback"] = f"{__name__}:{Farneback.__name__}"
    flows: dict[str, dict] = {f"DIS {preset}": {"flow_preset": preset} for preset in PRESETS}
    flows["Farneback"] = {"flow": "farneback"}
    drives = []
    for scenario in progress(SCENARIOS, "drives", len(SCENARIOS)):
        drives.append(list(drive(scenario, SEED, FRAMES, SIZE)))
    found: dict[str, dict] = {}
    for name in progress(flows, "flows", len(flows)):
        found[name] = _errors(drives, FlowParameters(**flows[name]))
        found[name]["identities"] = {t: _identities(drives, t, flows[name]) for t in TRACKERS}
    del FLOWS["farneback"]
    found[ALONE] = {"identities": {TRACKERS[0]: _identities(drives, "iou", {})}}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("onnx"):
        with tempfile.TemporaryDirectory() as folder:
            for name, size, updates in progress(RAFTS, "networks", len(RAFTS)):
                model = _random_raft(Path(folder) / "raft.onnx", size, updates)
                flow = make_flow(FlowParameters(flow="raft", flow_model=str(model), flow_threads=1))
                images = [street.frame.image for street in drives[0][: TIMED_PAIRS + 1]]
                times = [_timed(partial(flow, *pair))[1] for pair in zip(images[1:], images, strict=False)]
                found[f"{name}, {updates} updates, random weights"] = {"ms": float(np.median(times))}
    return {"drives": [f"{s}-{SEED}" for s in SCENARIOS], "frames": FRAMES, "size": list(SIZE), "flows": found}


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people."""
    of_flow = [
        [name, one["ms"], *(one["error"][part] if "error" in one else None for part in PARTS)]
        for name, one in figures["flows"].items()
        if "ms" in one
    ]
    shares = next(one["share"] for one in figures["flows"].values() if "share" in one)
    of_flow.append(["share of the pixels, percent", None, *(100 * shares[part] for part in PARTS)])
    of_tracks = [
        [name, *(one["identities"].get(t, {}).get(s, {}).get(k) for t in TRACKERS for s in SCENARIOS for k in METRICS)]
        for name, one in figures["flows"].items()
        if "identities" in one
    ]
    columns = [f"{t}, {s}: {k}" for t in TRACKERS for s in SCENARIOS for k in METRICS]
    return [
        ("mean end-point error in pixels, and milliseconds for one pair of images", ["flow", "ms", *PARTS], of_flow),
        ("identities, percent", ["flow", *columns], of_tracks),
    ]


def _errors(drives: list[list[StreetFrame]], parameters: FlowParameters) -> dict:
    """Mean error of each set of pixels, its share of all, and the median time of a step."""
    errors, chosen, times = [], [], []
    for frames in drives:
        history = FlowHistory.of(parameters)
        history.push(frames[0].frame.image, frames[0].frame.stamp)
        for before, now in zip(frames, frames[1:], strict=False):
            history.push(now.frame.image, now.frame.stamp)
            flow, ms = _timed(history.backward)
            times.append(ms)
            known = np.isfinite(now.flow).all(-1)
            speed = np.linalg.norm(now.flow, axis=-1)
            occluded = _occluded(before, now)
            fast = np.digitize(speed, (4, 16))
            sets = [known, now.instance > 0, ~occluded, occluded, *(fast == i for i in range(3))]
            errors.append(np.linalg.norm(flow - now.flow, axis=-1)[known])
            chosen.append(np.stack(sets)[:, known])
    error, sets = np.concatenate(errors), np.concatenate(chosen, axis=1)
    return {
        "ms": float(np.median(times)),
        "error": {part: float(error[one].mean()) for part, one in zip(PARTS, sets, strict=True)},
        "share": {part: float(one.mean()) for part, one in zip(PARTS, sets, strict=True)},
    }


def _occluded(before: StreetFrame, now: StreetFrame) -> NDArray[np.bool_]:
    """bool [H, W]: the point was outside of the image before, or another segment was at its place."""
    height, width = now.semantic.shape
    y, x = np.mgrid[:height, :width]
    origin = np.nan_to_num(now.flow, nan=1e6) + np.stack([x, y], -1)
    x, y = np.rint(origin).astype(np.int64).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    same = (before.semantic[y, x] == now.semantic) & (before.instance[y, x] == now.instance)
    return ~(inside & same)


def _identities(drives: list[list[StreetFrame]], tracker: str, parameters: dict) -> dict:
    """AQ and IDF1 in percent, by scenario."""
    found = {}
    for scenario, frames in zip(SCENARIOS, drives, strict=True):
        trial = run_tracker(make_tracker(Config(tracker=tracker, **parameters)), _segmented(frames))
        one = figures([trial])
        found[scenario] = {name: 100 * float(one[name] or 0) for name in METRICS}
    return found


def _segmented(frames: list[StreetFrame]) -> Iterator[DriveFrame]:
    segment = Degrader(TRUE, SEED)
    for street in frames:
        truth = VISIBLE.void_small(street.semantic, street.instance, CITYSCAPES)
        segmentation = segment(*truth)
        yield DriveFrame(street.frame, segmentation, segment_table(truth, segmentation))


def _timed(call: Callable[[], NDArray | None]) -> tuple[NDArray, float]:
    """The result, and milliseconds of processor time."""
    began = time.process_time()
    found = call()
    return found, (time.process_time() - began) * 1e3


def _random_raft(path: Path, size: str, updates: int) -> Path:
    """A model file of RAFT with random weights."""
    import torch

    from vps_ros.learning.raft.checkpoint import import_checkpoint
    from vps_ros.learning.raft.network import LARGE, SMALL, Raft

    torch.set_num_threads(1)
    torch.manual_seed(0)
    checkpoint = path.with_suffix(".pth")
    torch.save(Raft(LARGE if size == "large" else SMALL).state_dict(), checkpoint)
    import_checkpoint(checkpoint, path, SIZE, updates)
    return path
