"""Bags per minute of `vps-ros fleet replay` beside `vps-ros replay --jobs`, memory with many bags, and killed workers.

The bags are copies of one generated street of 40 frames, 640x192; the model is the shipped one. The alternative replays
the same bags one after the other in one process, with the threads of `--jobs 0`. Two nodes are two Ray nodes of one
core on this machine (ray.cluster_utils). Seconds contain the start of the workers, not that of Ray. CPU seconds are
those of the process that replays, or of all workers together; on a machine that does other work, only these can be
compared. Memory is measured with bags of two frames. VPS_ROS_FLEET_BAGS and VPS_ROS_FLEET_SMALL_BAGS (numbers,
separated by commas) set other sizes.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time, sleep

from benchmarks._processes import cpu_seconds, memory_mib, process_status
from vps_ros.commands.synth import write_bag
from vps_ros.config import Config
from vps_ros.datasets.streets import drive
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.frames import open_frames
from vps_ros.recording.replay import replay
from vps_ros.recording.tables import TableWriter
from vps_ros.recording.writer import BagWriter

DESCRIPTION = (
    "bags per minute of the fleet with 1 and 2 workers and 2 nodes, memory with many bags, killed workers, cost"
)
BAGS = int(os.environ.get("VPS_ROS_FLEET_BAGS", 8))
SMALL_BAGS = tuple(map(int, os.environ.get("VPS_ROS_FLEET_SMALL_BAGS", "100,1000").split(",")))
FRAMES, SMALL_FRAMES = 40, 2
HOURS, HZ, PRICE = 10_000, 10, 0.04
"""Recorded hours, frames of a second, and an assumed price of a core for an hour, in dollars."""


def run(progress) -> dict:
    """All figures; {"skipped": why} where ray is missing."""
    if importlib.util.find_spec("ray") is None:
        return {"skipped": "ray is not installed; pip install 'vps_ros[fleet]'"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bags = _bags(root / "bags", BAGS, FRAMES)
        rates = {"replay --jobs 0": _alternative(progress, bags, root / "jobs")}
        for workers in (1, 2):
            name = f"fleet, {workers} worker{'s' * (workers > 1)}"
            rates[name] = _fleet(progress, bags, root / f"workers{workers}", name, workers)
        with _nodes(2) as address:
            rates["fleet, 2 nodes"] = _fleet(progress, bags, root / "nodes", "fleet, 2 nodes", 2, address)
        killed = _fleet(progress, bags, root / "killed", "killed workers", 2, kill=True)
        memory = []
        for count in SMALL_BAGS:
            small = _bags(root / f"small{count}", count, SMALL_FRAMES)
            memory.append(_fleet(progress, small, root / f"memory{count}", f"{count} small bags", 2))
    frames_of_a_core = BAGS * FRAMES / rates["fleet, 2 workers"]["cpu_seconds"]
    hours = HOURS * HZ / frames_of_a_core
    return {
        "bags": BAGS,
        "rates": rates,
        "killed": killed,
        "memory": memory,
        "cost": {"frames_per_core_second": frames_of_a_core, "core_hours": hours, "dollars": hours * PRICE},
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people."""
    bags = figures["bags"]
    rates = [
        [name, one["seconds"], bags / one["seconds"] * 60, one["cpu_seconds"] / bags]
        for name, one in figures["rates"].items()
    ]
    killed = figures["killed"]
    memory = [
        [one["bags"], one["seconds"], one["driver_mib"], one["worker_mib"], one["ray_mib"]] for one in figures["memory"]
    ]
    cost = figures["cost"]
    return [
        (f"{bags} bags of {FRAMES} frames", ["how", "seconds", "bags/min", "CPU s of a bag"], rates),
        (
            "a worker of two killed after every second bag",
            ["bags", "killed", "without result", "seconds"],
            [[killed["bags"], killed["killed"], killed["failed"], killed["seconds"]]],
        ),
        (
            f"highest resident memory, bags of {SMALL_FRAMES} frames, two workers",
            ["bags", "seconds", "driver MiB", "largest worker MiB", "Ray's own processes MiB"],
            memory,
        ),
        (
            f"{HOURS:,} recorded hours at {HZ} frames/s, at an assumed price of {PRICE:g} dollars for a core and hour",
            ["frames/s of a core", "core hours", "dollars"],
            [[cost["frames_per_core_second"], round(cost["core_hours"]), round(cost["dollars"])]],
        ),
    ]


def _bags(folder: Path, count: int, frames: int) -> Path:
    folder.mkdir()
    first = folder / "0000.mcap"
    write_bag(first, drive("cruise", seed=900_000, frames=frames))
    for k in range(1, count):
        shutil.copyfile(first, folder / f"{k:04d}.mcap")
    return folder


def _alternative(progress, bags: Path, out: Path) -> dict:
    began, cpu = perf_counter(), process_time()
    paths = sorted(bags.iterdir())
    for path in progress(paths, "replay --jobs 0", len(paths)):
        pipeline = OnlinePanoptic(Config())
        with (
            open_frames(path, topic="/camera/image_raw") as source,
            BagWriter(out / path.name) as bag,
            TableWriter(out, path.stem, path.stem) as rows,
        ):
            sinks = (lambda frame, result, p=pipeline, b=bag: b.write_frame(result, p.taxonomy), rows.write)
            replay(source.frames(), pipeline, sinks, os.cpu_count() or 1)
    return {"seconds": perf_counter() - began, "cpu_seconds": process_time() - cpu}


def _fleet(
    progress, bags: Path, out: Path, label: str, workers: int, address: str | None = None, kill: bool = False
) -> dict:
    """Figures of a run; with `kill`, a worker that processes a bag is killed after every second bag."""
    from vps_ros.fleet.bags import find_bags
    from vps_ros.fleet.cluster import Workers, cluster, process
    from vps_ros.fleet.replay import Replay
    from vps_ros.fleet.storage import Store
    from vps_ros.fleet.work import Item

    items = [Item(bag) for bag in find_bags([str(bags)]).values()]
    job, output = Replay(Config(), "/camera/image_raw"), Store.at(str(out))
    outcomes, hit = [], set[str]()
    with cluster(address, max(workers, 1)), _watched() as seen:
        began = perf_counter()
        for outcome in progress(process(job, items, output, Workers(workers)), label, len(items)):
            outcomes.append(outcome)
            if kill and len(outcomes) % 2:
                hit |= _kill_one({item.name for item in items} - hit)
        seconds = perf_counter() - began
    assert len({one.name for one in outcomes}) == len(outcomes) == len(items)
    failed = sum(bool(one.error) for one in outcomes)
    return {"bags": len(items), "seconds": seconds, "failed": failed, "killed": len(hit), **seen}


def _kill_one(names: set[str]) -> set[str]:
    """Kills one worker that processes one of these bags; the name of the bag, or nothing where there is none."""
    for pid, title in _descendants().items():
        if (name := title.removeprefix("ray::replay ")) in names:
            _ignoring_ends(lambda pid=pid: os.kill(pid, signal.SIGKILL))
            return {name}
    return set()


@contextmanager
def _nodes(count: int) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(count - 1):
            made.add_node(**node)
        yield made.address
    finally:
        made.shutdown()


@contextmanager
def _watched() -> Iterator[dict]:
    """Highest memory, in MiB, of this process, of its largest worker, and of Ray's processes together; CPU seconds of
    the workers and of Ray's processes."""
    seen = {"driver_mib": 0.0, "worker_mib": 0.0, "ray_mib": 0.0}
    cpu: dict[int, float] = {}
    workers = set[int]()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            titles = _descendants()
            # Ray names a process after its actor or its call, and for moments between two calls after neither.
            workers.update(p for p, title in titles.items() if title.startswith(("ray::prepare", "ray::replay")))
            seen["driver_mib"] = max(seen["driver_mib"], _mib(os.getpid()))
            seen["worker_mib"] = max(seen["worker_mib"], *map(_mib, workers), 0.0)
            seen["ray_mib"] = max(seen["ray_mib"], sum(_mib(pid) for pid in titles.keys() - workers))
            for pid in titles:
                cpu[pid] = max(cpu.get(pid, 0.0), _ignoring_ends(lambda pid=pid: cpu_seconds(pid)) or 0.0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        seen["cpu_seconds"] = sum(cpu[pid] for pid in workers)
        seen["ray_cpu_seconds"] = sum(cpu[pid] for pid in cpu.keys() - workers)
        # Ray's processes need a moment to end; the next measurement must not count them.
        sleep(2)


def _descendants() -> dict[int, str]:
    """Titles of the processes that this one and its descendants started."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (status := _ignoring_ends(lambda entry=entry: process_status(entry.name))):
            parents[int(entry.name)] = int(status["PPid"])
            line = _ignoring_ends(lambda entry=entry: (entry / "cmdline").read_bytes()) or b""
            titles[int(entry.name)] = line.decode(errors="replace").rstrip("\0 ")
    found, more = set[int](), {os.getpid()}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more} - found
        found |= more
    return {pid: titles[pid] for pid in found}


def _mib(pid: int) -> float:
    return _ignoring_ends(lambda: memory_mib(pid=pid)) or 0.0


def _ignoring_ends(read: Callable):
    """None where the process has ended."""
    try:
        return read()
    except (FileNotFoundError, ProcessLookupError):
        return None
