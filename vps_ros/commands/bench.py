"""`vps-ros bench`: runs the benchmarks of the source tree."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

from vps_ros.commands.console import note, progress, table
from vps_ros.errors import InputError
from vps_ros.files import write_json

DESCRIPTION = "Measure speed and quality, each beside a named alternative in the same run."
EXAMPLES = [
    "vps-ros bench                     # which benchmarks there are",
    "vps-ros bench pipeline",
    "vps-ros bench pipeline --profile",
    "vps-ros bench pipeline --json benchmarks/results/pipeline.json",
]
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "numpy",
    "scipy",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "panda3d",
    "rosbags",
    "cyclonedds",
    "ray",
    "pyarrow",
    "torch",
    "transformers",
    "trackers",
    "trackeval",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the benchmark; without it, all are listed")
    parser.add_argument(
        "--profile", action="store_true", help="what each stage's time is spent on; the benchmark NAME_profile"
    )
    parser.add_argument("--json", metavar="F", help="also write the figures and facts about the machine as JSON")


def run(args: argparse.Namespace) -> int:
    available = names(ROOT / "benchmarks")
    if args.name is None:
        if args.json is not None:
            raise InputError("--json needs the name of a benchmark; `vps-ros bench` lists them")
        table("benchmarks", ["name", "measures"], [[name, load(name).DESCRIPTION] for name in available])
        return 0
    name = f"{args.name}_profile" if args.profile else args.name
    if name not in available:
        raise InputError(f"no benchmark {name!r}; there is {', '.join(available)}")
    module = load(name)
    facts = machine()
    if facts["load"] is not None and facts["load"] > 0.5:
        note(f"the machine is busy (load {facts['load']:.1f}): times will be longer than on an idle one")
    figures = module.run(progress)
    if "skipped" in figures:
        note(f"{name} was not measured: {figures['skipped']}")
        return 0
    for title, columns, rows in tables(module, figures):
        table(title, columns, rows)
    if args.json is not None:
        write_json(args.json, {"benchmark": name, "machine": facts, **figures})
    return 0


def names(folder: Path) -> list[str]:
    """The names of the benchmarks in a folder; raises InputError where there are none, as in an installed package."""
    found = sorted(path.stem for path in folder.glob("[!_]*.py"))
    if not found:
        raise InputError(
            f"{folder}: no benchmarks here; they are part of the source tree, run this in a clone of the repository"
        )
    return found


def load(name: str) -> ModuleType:
    """A benchmark module: DESCRIPTION, run(progress) -> figures, and `tables` or `rows` (see `tables`).

    Figures {"skipped": reason} mean that it could not be measured here.
    """
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"benchmarks.{name}")


def tables(module: ModuleType, figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """Title, columns and rows of a benchmark's `tables(figures)`, or of the one table that `rows(figures)` gives."""
    if hasattr(module, "tables"):
        return module.tables(figures)
    return [(module.DESCRIPTION, *module.rows(figures))]


def machine() -> dict:
    """CPU, system, versions and load of this machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
