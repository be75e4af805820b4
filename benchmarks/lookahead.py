"""Identities online and with look-ahead, by the default tracker on the same segmentations of generated drives.

`vps-ros replay --lookahead` decides identities after the last frame. The drives are not those of training.
"degraded" are true masks with the errors of a segmenter, "model" are the masks of streets-s. Switches are counted where
classes match. "true links" joins the same tracklets by their true objects: what linking could gain at most, since a
tracklet is never divided. It does not use the true class, and the tracklets of no object stay alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks._quality import IDENTITY_COLUMNS, identity_cells, identity_figures
from vps_ros.ablation import trial
from vps_ros.ablation.sources import Drive, DriveFrame, Source
from vps_ros.ablation.study import SIZE
from vps_ros.config import Config
from vps_ros.datasets.streets import SCENARIOS
from vps_ros.frame import Track
from vps_ros.trackers.lookahead import Chains, Identities, link
from vps_ros.trackers.tracklets import TrackletRecorder

DESCRIPTION = "AQ, IDF1 and id switches online and with look-ahead, on 6 generated drives"
SEED, FRAMES, MASKS = 930_000, 100, ("degraded", "model")
CACHE = Path(".drives/lookahead")
METRICS = ("CLEAR", "Identity")
ONLINE, AHEAD, TRUE = "online", "look-ahead", "true links"


def run(progress: Any) -> dict:
    """Figures by masks, scenario and kind of identities."""
    try:
        from vps_ros.learning.tracking.lookahead import run_online
    except ModuleNotFoundError as error:
        return {"skipped": f"{error.name} is missing; run `pip install .[train]`"}
    trials: dict[tuple[str, str], dict[str, trial.Trial]] = {}
    jobs = [(masks, scenario) for scenario in SCENARIOS for masks in MASKS]
    with TemporaryDirectory() as temporary:
        folder = CACHE if CACHE.is_dir() else Path(temporary)
        for masks, scenario in progress(jobs, "drives", len(jobs)):
            config = Config() if masks == "model" else Config().for_other_segmentations()
            frames = Source(folder, Drive(scenario, SEED, FRAMES, SIZE), masks, config.model).frames()
            recorder, online = run_online(frames, config)
            runs = {ONLINE: online}
            for name, chains in ((AHEAD, link(recorder)), (TRUE, _true_chains(recorder, frames, online))):
                identities = Identities(recorder, chains, config.tracker_parameters.confirm_hits)
                runs[name] = [identities.rewrite(0, tracks) for tracks in online]
            trials[masks, scenario] = {name: _trial(frames, tracks) for name, tracks in runs.items()}
    cells = [
        {"masks": masks, "scenario": scenario, "identities": name, **identity_figures([one])}
        for (masks, scenario), row in trials.items()
        for name, one in row.items()
    ]
    total = [
        {"masks": masks, "identities": name, **identity_figures([row[name] for row in rows])}
        for masks in MASKS
        for rows in [[row for (m, _), row in trials.items() if m == masks]]
        for name in (ONLINE, AHEAD, TRUE)
    ]
    return {"seed": SEED, "frames": FRAMES, "size": list(SIZE), "cells": cells, "total": total}


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """Online, with look-ahead, and with true links: percent, and numbers."""
    names, drives = ("masks", "scenario", "identities"), f"drives of {figures['frames']} frames"
    total = [[one["masks"], one["identities"], *identity_cells(one)] for one in figures["total"]]
    each = [[*(one[k] for k in names), *identity_cells(one)] for one in figures["cells"] if one["identities"] != TRUE]
    return [
        (f"all {drives}", ["masks", "identities", *IDENTITY_COLUMNS], total),
        (f"each of the {drives}", [*names, *IDENTITY_COLUMNS], each),
    ]


def _true_chains(recorder: TrackletRecorder, frames: Sequence[DriveFrame], online: Sequence) -> Chains:
    from vps_ros.learning.tracking.lookahead import true_tracklets

    before = np.full(len(recorder.tracklets), -1)
    latest: dict[int, int] = {}
    for index, code in enumerate(true_tracklets(frames, online, recorder).tolist()):
        if code > 0:
            earlier = latest.get(code, -1)
            if earlier >= 0 and recorder.tracklets[earlier].last < recorder.tracklets[index].first:
                before[index] = earlier
            latest[code] = index
    return Chains(before, (before >= 0).astype(float))


def _trial(frames: Sequence[DriveFrame], tracks: Iterable[tuple[Track, ...]]) -> trial.Trial:
    counts = trial.TrialCounts(METRICS)
    for frame, found in zip(frames, tracks, strict=True):
        counts.update(frame, *trial.tracked(frame.segmentation, found))
    return counts.result()
