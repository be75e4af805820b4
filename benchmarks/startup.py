"""Start-up time and memory of the commands, compared with importing the libraries that they need.

Each line is a process of its own; its time is that of the processor, of all its threads, and its memory the largest
resident size, including files that are mapped into memory, such as the bag. `replay` reads a bag of generated street
images of 1242x375; with one frame, its time is that until the first result is written. In a ROS shell with the
workspace, on rmw_cyclonedds_cpp, `ros2 run` and `ros2 launch` start the node, until it subscribes to a camera
of that size (it is active), and until its first result. Where the environment variable
VPS_ROS_BENCH_PREVIOUS names a commit, the same commands run with the package of that commit, in turn with the current
one. On a machine with much other load, only the seconds of the processor and the memory can be compared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from benchmarks import _node_start
from benchmarks._previous import REVISION, ROOT, packages
from benchmarks._processes import memory_mib
from vps_ros.commands.synth import write_bag
from vps_ros.datasets.streets import drive

DESCRIPTION = "time to start commands and memory of replay, compared with importing onnxruntime and cv2"
SIZE, LONG, REPEATS = (1242, 375), 40, 3
KEYS = ("cpu_seconds", "wall_seconds", "peak_mib")
GOALS = {"vps-ros --help": ("wall_seconds", 0.3), "replay, 1 frame": ("wall_seconds", 2.0)}
GOALS |= {f"replay, {LONG} frames": ("peak_mib", 220.0)}
NODE_KEYS = ("active_seconds", "result_seconds", "cpu_seconds", "rss_mib", "pss_mib")
NODE_GOAL = 3.0
"""Seconds until the node is active."""


def run(progress) -> dict:
    """Medians by command and package; `progress(items, label, total)` shows how far it is."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        compared = packages(folder)
        found: dict[str, dict[str, list[dict]]] = {}
        jobs = [(*job, repeat) for repeat in range(REPEATS) for job in _commands(folder)]
        for name, command, own, _ in progress(jobs, "processes", len(jobs)):
            for which, path in compared.items() if own else [("current", ROOT)]:
                found.setdefault(name, {}).setdefault(which, []).append(_measure(command, path))
        lacking = _node_start.lacking()
        image = next(iter(drive("cruise", seed=900_000, frames=1, size=SIZE))).frame.image
        node: dict[str, dict[str, list[dict]]] = {}
        starts = [(name, repeat) for repeat in range(REPEATS) for name in (() if lacking else _node_start.COMMANDS)]
        for name, _ in progress(starts, "nodes", len(starts)):
            for which, path in compared.items():
                node.setdefault(name, {}).setdefault(which, []).append(_node_start.measure(name, path, image))
    return {
        "previous": REVISION,
        "size": list(SIZE),
        "repeats": REPEATS,
        "processes": _medians(found, KEYS),
        "rclpy": lacking or "measured",
        "node": _medians(node, NODE_KEYS),
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    rows, nodes = [], []
    for name, of in figures["processes"].items():
        values = _columns(of, KEYS)
        key, goal = GOALS.get(name, (None, None))
        rows.append([name, *values, f"{goal:g} {'MiB' if key == 'peak_mib' else 's'}" if goal else None])
    found = [
        (
            "start of processes, and largest resident memory",
            ["process", *_titles("CPU s", "wall s", "MiB"), "goal"],
            rows,
        )
    ]
    for name, of in figures["node"].items():
        nodes.append([name, *_columns(of, NODE_KEYS), f"active after {NODE_GOAL:g} s"])
    if nodes:
        titles = _titles("active, wall s", "first result, wall s", "CPU s", "MiB (RSS)", "MiB (PSS)")
        found.append(("start of the node, and its memory after the first result", ["process", *titles, "goal"], nodes))
    return found


def _medians(found: dict[str, dict[str, list[dict]]], keys: tuple[str, ...]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {which: {key: float(np.median([one[key] for one in runs])) for key in keys} for which, runs in of.items()}
        for name, of in found.items()
    }


def _columns(of: dict[str, dict[str, float]], keys: tuple[str, ...]) -> list[float | None]:
    return [of.get(which, {}).get(key) for key in keys for which in ("previous", "current")]


def _titles(*keys: str) -> list[str]:
    return [f"{key}, {which}" for key in keys for which in ("previous", "current")]


def _commands(folder: Path) -> list[tuple[str, list[str], bool]]:
    """Name, arguments of Python, and whether it depends on the package."""
    vps_ros = ["-m", "vps_ros.commands.main"]
    jobs = [
        ('python -c "import onnxruntime, cv2"', ["-c", "import onnxruntime, cv2"], False),
        ("vps-ros --help", [*vps_ros, "--help"], True),
        ("vps-ros replay --help", [*vps_ros, "replay", "--help"], True),
    ]
    for count in (1, LONG):
        bag = folder / f"{count}.mcap"
        if not bag.exists():
            write_bag(bag, drive("cruise", seed=900_000, frames=count, size=SIZE))
        output = ["-o", str(folder / "out.mcap"), "--force"]
        name = f"replay, {count} frame{'s' * (count > 1)}"
        jobs.append((name, [*vps_ros, "replay", str(bag), *output], True))
    return jobs


def _measure(arguments: list[str], package: Path) -> dict[str, float]:
    """Raises CalledProcessError when the process fails."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    began = perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        cwd=package,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        # Not `wait`, which would say nothing of what the process used. ru_maxrss includes this process before `exec`.
        ended, peak = 0, 0.0
        while not ended:
            peak = max(peak, memory_mib("VmHWM", process.pid))
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            sleep(0.005)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": perf_counter() - began,
        "peak_mib": peak,
    }
