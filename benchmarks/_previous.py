"""The package of an earlier commit, for comparison in the same run."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REVISION = os.environ.get("VPS_ROS_BENCH_PREVIOUS")
"""A commit of this repository; None: no comparison."""


def previous_package(folder: Path) -> Path:
    """Writes the package of REVISION into `folder`, which then goes on PYTHONPATH; returns it."""
    archive = subprocess.run(
        ["git", "archive", str(REVISION), "vps_ros", "benchmarks", "msg"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder
