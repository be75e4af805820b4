"""An hour of 30 Hz over DDS with the shipped model: whether memory, threads or latency of the host grow.

The processes are those of the benchmark `live`, at 1242x375. VPS_ROS_SOAK_MINUTES sets another length. Each row is the
mean of its minutes. It is compared with the first row, after which nothing should grow.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._host import private_domain

DESCRIPTION = "memory, threads and latency of the host over an hour of 30 Hz, compared with its first minutes"
SIZE, HZ, DISTINCT, MINUTES, ROWS = (1242, 375), 30, 30, 60.0, 6
SHOWN = ("rss_mib", "threads", "p50", "p99", "rate", "load")


def run(progress) -> dict:
    """Samples of every few seconds; {"skipped": why} where cyclonedds is missing."""
    if importlib.util.find_spec("cyclonedds") is None:
        return {"skipped": 'cyclonedds is not installed; pip install "vps_ros[live]"'}
    from benchmarks._live_run import measure, street_images

    minutes = float(os.environ.get("VPS_ROS_SOAK_MINUTES", MINUTES))
    with tempfile.TemporaryDirectory() as folder, private_domain():
        images = street_images(progress, Path(folder), SIZE, DISTINCT)
        for _ in progress(range(1), f"{minutes:g} minutes", 1):
            one = measure(Path(folder), images, HZ, 60 * minutes)
    samples = [{name: sample[name] for name in ("at", *SHOWN)} for sample in one.samples if sample["p50"] is not None]
    return {"minutes": minutes, "sent": one.sent, "tracked": len(one.late), "samples": samples}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people."""
    samples = figures["samples"]
    began = samples[0]["at"]
    table = []
    for part in np.array_split(np.arange(len(samples)), min(ROWS, len(samples))):
        here = [samples[i] for i in part]
        until = (here[-1]["at"] - began) / 60
        table.append([f"{until:.1f}", *(float(np.mean([sample[name] for sample in here])) for name in SHOWN)])
    return ["until minute", "memory MiB", "threads", "p50 ms", "p99 ms", "frames/s", "load of the machine"], table
