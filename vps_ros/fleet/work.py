"""What is done with one bag, and the marker that says it is done."""

from __future__ import annotations

import hashlib
import json
import tempfile
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from vps_ros import __version__
from vps_ros.errors import InputError
from vps_ros.fleet.bags import StoredBag
from vps_ros.fleet.storage import Store

_READERS = 16
"""Markers that are read at the same time; reading is waiting for the network."""


@dataclass(frozen=True)
class Item:
    """One unit of work: a bag, and the bag with its ground truth where that is another one."""

    bag: StoredBag
    truth: StoredBag | None = None

    @property
    def name(self) -> str:
        return self.bag.name

    @property
    def version(self) -> str:
        """Changes when a file of its bags is replaced."""
        return self.bag.version + (self.truth.version if self.truth else "")


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Attributes:
        figures: what was measured; empty where it failed.
        error: why it failed, in one line.
        defect: the failure is one of this package, not of the input.
    """

    name: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    defect: bool = False


class Job(ABC):
    """A kind of work on bags. It is pickled for the workers; `prepare` and `process` run there.

    Attributes:
        name: in markers, messages and Ray's dashboard.
        endings: of the files that it makes for each bag.
    """

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]

    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """Everything that decides the results, as JSON; results of other parameters are not reused."""

    def prepare(self, threads: int) -> None:  # noqa: B027  # not every job needs a model
        """Loads what all bags need, such as the model; raises InputError where that is impossible.

        Args:
            threads: CPU cores of this worker.
        """

    @abstractmethod
    def process(self, item: Item, folder: Path) -> dict[str, Any]:
        """Writes `folder / f"result{ending}"` for each of `endings`; returns figures, as JSON.

        Raises InputError for a bag that cannot be used.
        """

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the parameters and of the version of this package."""
        text = json.dumps([__version__, self.name, self.parameters()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def marker(self, name: str) -> str:
        return f"{name}.{self.name}.json"


_NO_LOCK = nullcontext()


def run(job: Job, item: Item, output: Store, storing: AbstractContextManager = _NO_LOCK) -> Outcome:
    """Processes one item and stores its results, then its marker; never raises an Exception.

    If another worker has finished the item before it died, its results stay.

    Args:
        storing: held while results are stored.
    """
    try:
        done = _finished(job, item, output)
        if done is not None:
            return Outcome(item.name, done)
        with tempfile.TemporaryDirectory(prefix="vps-ros-") as temporary:
            figures = job.process(item, Path(temporary))
            results = {f"{item.name}{ending}": Path(temporary, f"result{ending}") for ending in job.endings}
            content = {
                "parameters": job.fingerprint,
                "input": item.version,
                "where": item.bag.where,
                "outputs": {name: path.stat().st_size for name, path in results.items()},
                "figures": figures,
            }
            results[job.marker(item.name)] = Path(temporary, "marker")
            results[job.marker(item.name)].write_text(json.dumps(content, indent=2) + "\n")
            with storing:
                for name, path in results.items():
                    output.put(path, name)
        return Outcome(item.name, figures)
    except (InputError, OSError) as error:
        # The network, or a full disk.
        return Outcome(item.name, error=" ".join(str(error).split()))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"
        return Outcome(item.name, error=" ".join(line.split()), defect=True)


@dataclass(frozen=True)
class Plan:
    """Which items are done and which are not.

    Attributes:
        done: their figures, by name.
        outdated: names of items with results of other parameters or of another version of the bag.
    """

    missing: tuple[Item, ...]
    done: Mapping[str, Mapping[str, Any]]
    outdated: tuple[str, ...]


def plan(job: Job, items: Iterable[Item], output: Store) -> Plan:
    """Compares the items with the markers in the output; a result that is incomplete is missing."""
    sizes = {file.path: file.size for file in output.files() or ()}
    items = tuple(items)
    with ThreadPoolExecutor(_READERS) as pool:
        marked = [item for item in items if job.marker(item.name) in sizes]
        read = dict(zip(marked, pool.map(lambda item: _marker(job, item, output), marked), strict=True))
    missing, done, outdated = [], {}, []
    for item in items:
        marker = read.get(item)
        if marker and _is_current(job, item, marker) and marker["outputs"].items() <= sizes.items():
            done[item.name] = marker["figures"]
            continue
        missing.append(item)
        if marker and marker["parameters"] != job.fingerprint:
            outdated.append(item.name)
    return Plan(tuple(missing), done, tuple(outdated))


def forget(job: Job, names: Iterable[str], output: Store) -> None:
    """Removes markers before their results are replaced one after the other."""
    with ThreadPoolExecutor(_READERS) as pool:
        list(pool.map(lambda name: output.remove(job.marker(name)), names))


def _finished(job: Job, item: Item, output: Store) -> Mapping[str, Any] | None:
    """The figures of an item that is done, None otherwise."""
    if output.size(job.marker(item.name)) is None:
        return None
    marker = _marker(job, item, output)
    complete = all(output.size(name) == size for name, size in marker["outputs"].items())
    return marker["figures"] if complete and _is_current(job, item, marker) else None


def _marker(job: Job, item: Item, output: Store) -> dict[str, Any]:
    """The marker of an item; without content where it is none."""
    try:
        marker = json.loads(output.read(job.marker(item.name)))
        return {key: marker[key] for key in ("parameters", "input", "outputs", "figures")}
    except (ValueError, KeyError, TypeError):
        return {"parameters": "", "input": "", "outputs": {}, "figures": {}}


def _is_current(job: Job, item: Item, marker: Mapping[str, Any]) -> bool:
    return (marker["parameters"], marker["input"]) == (job.fingerprint, item.version)
