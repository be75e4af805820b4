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


def packages(folder: Path) -> dict[str, Path]:
    """Paths for PYTHONPATH: "current", and "previous", the package of REVISION, which is written into `folder`."""
    if not REVISION:
        return {"current": ROOT}
    archive = subprocess.run(
        ["git", "archive", REVISION, "vps_ros", "benchmarks", "msg"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder / "previous", filter="data")
    return {"current": ROOT, "previous": folder / "previous"}
