"""Resident memory of a live worker with one and with four cameras over its frames, beside the libraries alone.

A process for each row. The worker is that of the node: pipelines that share the shipped model, images of a generated
street of 1242x375 as CDR, every output made and serialised (`overlay` too). Neither rclpy nor DDS is in it; `bench
startup` measures the node itself. VPS_ROS_MEMORY_FRAMES sets another number of frames for each camera. Where
VPS_ROS_BENCH_PREVIOUS names a commit, its package runs too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._previous import REVISION, ROOT, packages
from vps_ros.datasets.streets import drive

DESCRIPTION = "memory of a live worker with one and four cameras over its frames, compared with its libraries alone"
SIZE, DISTINCT, CAMERAS, FRAMES = (1242, 375), 30, (0, 1, 4), 500
SAMPLES = 5


def run(progress) -> dict:
    """Samples of each process: frames of all cameras so far, and MiB; without cameras, after the imports."""
    frames = int(os.environ.get("VPS_ROS_MEMORY_FRAMES", FRAMES))
    found: dict[str, dict[str, list[dict]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, street in enumerate(drive("cruise", seed=900_000, frames=DISTINCT, size=SIZE)):
            np.save(folder / f"{number}.npy", street.frame.image)
        compared = packages(folder)
        jobs = [(cameras, which) for cameras in CAMERAS for which in compared]
        for cameras, which in progress(jobs, "processes", len(jobs)):
            path = os.pathsep.join([str(compared[which]), str(ROOT), os.environ.get("PYTHONPATH", "")])
            command = [sys.executable, str(ROOT / "benchmarks" / "_worker_memory.py"), str(folder)]
            command += map(str, (DISTINCT, cameras, frames, max(frames // SAMPLES, 1)))
            done = subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": path},
                cwd=folder,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found.setdefault(str(cameras), {})[which] = json.loads(done.stdout)
    return {"previous": REVISION, "size": list(SIZE), "frames": frames, "cameras": found}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    table = []
    for cameras, of in figures["cameras"].items():
        for index, sample in enumerate(of["current"]):
            before = of["previous"][index] if "previous" in of else {}
            sizes = [one.get(key) for key in ("rss_mib", "pss_mib") for one in (before, sample)]
            table.append([cameras if cameras != "0" else "none: imports", sample["frames"], *sizes])
    titles = [f"MiB ({key}), {which}" for key in ("RSS", "PSS") for which in ("previous", "current")]
    return ["cameras", "frames of all cameras", *titles], table
