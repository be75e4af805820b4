"""A job on the workers of a Ray cluster: Ray starts them, gives them work, and reports those that died."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

from vps_ros import __version__
from vps_ros.errors import InputError
from vps_ros.fleet.storage import Store
from vps_ros.fleet.work import Item, Job, Outcome, run

ATTEMPTS = 3
"""Times that a bag is given to a worker. One that ends every worker, such as by its need of memory, must not go on."""
_STORE_BYTES = 100_000_000
"""Ray's object store on this machine. It holds the job and the outcomes only; bags do not pass through Ray."""
_PROBE_SECONDS = 5.0
_END_SECONDS = 60.0
"""Time for workers to store results that are ready, before they are stopped."""


@dataclass(frozen=True)
class Workers:
    """How many workers, and what each needs.

    Attributes:
        count: 0: as many as the cluster has room for.
        cpus: cores of each, also the threads of its network.
        gpus: of each; a fraction shares one.
    """

    count: int = 0
    cpus: int = 1
    gpus: float = 0.0


@contextlib.contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[dict[str, float]]:
    """Connects to a Ray cluster, or starts Ray on this machine without an address; yields the resources of its nodes.

    Args:
        cpus: cores that a Ray on this machine may use; None: all.

    Raises InputError when Ray is not installed or cannot be reached.
    """
    # Ray reports its use to its makers otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(f"the fleet needs ray ({error}); pip install 'vps_ros[fleet]'") from None
    connect = partial(ray.init, address or "local", log_to_driver=False, logging_level=logging.CRITICAL)
    if address is None:
        connect = partial(connect, num_cpus=cpus, object_store_memory=_STORE_BYTES)
    else:
        _probe(address)
    # In a thread of its own, so that a signal does not leave Ray half started. Ray's processes end with the thread.
    with ThreadPoolExecutor(1) as thread:
        handler = signal.getsignal(signal.SIGTERM)
        started = thread.submit(connect)
        try:
            try:
                started.result()
            except Exception as error:
                # Ray's errors of a start have no type of their own.
                reason = " ".join(str(error).split())[:300]
                if address is None:
                    raise InputError(f"Ray cannot be started on this machine ({reason}); see Ray's logs") from None
                raise _unreachable(address, reason) from None
            if threading.current_thread() is threading.main_thread():
                # Ray's own handler ends the process with a stack trace.
                signal.signal(signal.SIGTERM, handler)
            yield ray.cluster_resources()
        finally:
            wait([started])
            ray.shutdown()


def process(job: Job, items: Sequence[Item], output: Store, workers: Workers) -> Generator[Outcome, None, None]:
    """Yields the outcome of each item as soon as it is there, in any order. Needs a `cluster`.

    A worker whose process or node dies is replaced, and its item is given to another one. When the generator is closed,
    workers that are storing results finish them.

    Raises InputError when the workers cannot be started: no place for one, another version of this package, or the job
    cannot be prepared there, such as for a model that cannot be loaded.
    """
    import ray

    count = min(workers.count or _room(ray.cluster_resources(), workers), len(items))
    shared = ray.put(job)
    # The second thread is for `end`, while the first one processes a bag.
    kind = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus, max_restarts=0, max_concurrency=2)(_Worker)
    waiting, attempts = deque(items), Counter[str]()
    running: dict[Future, tuple[Any, Item | None]] = {}

    def start() -> None:
        actor = kind.options(name=f"{job.name} {os.urandom(4).hex()}").remote(shared, output, workers.cpus, __version__)
        running[actor.prepare.options(name=f"prepare {job.name}").remote().future()] = actor, None

    try:
        for _ in range(count):
            start()
        while waiting or any(item for _, item in running.values()):
            # Not ray.wait, which replaces the exit code of a signal handler.
            done = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
            actor, item = running.pop(done)
            try:
                found = done.result()
            except ray.exceptions.RayTaskError:
                # An exception of this package in the worker.
                raise
            except ray.exceptions.RayError as error:
                # Ray's own retry binds a call to its actor, which waits where no node has room for it again. Any
                # worker can take the item instead.
                ray.kill(actor)
                name = item.name if item else ""
                attempts[name] += 1
                if attempts[name] < ATTEMPTS:
                    waiting.extend([item] if item else [])
                elif item:
                    yield Outcome(name, error=f"its worker died {ATTEMPTS} times ({_reason(error)}); see Ray's logs")
                else:
                    raise InputError(f"workers die while they start ({_reason(error)}); see Ray's logs") from None
                if waiting:
                    start()
                continue
            if isinstance(found, str):
                raise InputError(found)
            if waiting:
                following = waiting.popleft()
                call = actor.process.options(name=f"{job.name} {following.name}")
                running[call.remote(following).future()] = actor, following
            else:
                _end([actor])
            if item:
                yield found
            else:
                attempts[""] = 0
    finally:
        _end([actor for actor, item in running.values() if item])
        for actor, _ in running.values():
            ray.kill(actor)


def _end(actors: Iterable[Any]) -> None:
    """Stops workers that have been prepared; no bag keeps a part of its results."""
    import ray

    wait([actor.end.remote().future() for actor in actors], _END_SECONDS)
    for actor in actors:
        ray.kill(actor)


class _Worker:
    """One process of the cluster, which holds one model."""

    def __init__(self, job: Job, output: Store, cpus: int, version: str) -> None:
        self._job, self._output, self._cpus, self._version = job, output, cpus, version
        self._storing = threading.Lock()
        # For the model, and for bags and results.
        self._folder = tempfile.TemporaryDirectory(prefix="vps-ros-", ignore_cleanup_errors=True)
        tempfile.tempdir = self._folder.name

    def prepare(self) -> str | None:
        """Loads the model; returns why this is impossible, or None."""
        node = socket.gethostname()
        if self._version != __version__:
            return f"worker on {node}: has vps_ros {__version__}, this machine {self._version}; install one version"
        try:
            self._job.prepare(self._cpus)
        except InputError as error:
            # Temporary folders mean nothing to the user.
            return f"worker on {node}: " + re.sub(rf"{re.escape(self._folder.name)}/[^/]*/", "", str(error))
        return None

    def process(self, item: Item) -> Outcome:
        return run(self._job, item, self._output, self._storing)

    def end(self) -> None:
        """Waits until results that are being stored are complete, and removes temporary files; called once."""
        self._storing.acquire()
        self._folder.cleanup()


def _room(resources: dict[str, float], workers: Workers) -> int:
    """Workers that the cluster has room for; raises InputError when that is none."""
    needs = {"CPU": workers.cpus, "GPU": workers.gpus}
    room = min(int(resources.get(kind, 0) / need) for kind, need in needs.items() if need)
    if not room:
        needed = ", ".join(f"{need:g} {kind}" for kind, need in needs.items() if need)
        there = ", ".join(f"{resources.get(kind, 0):g} {kind}" for kind in needs)
        raise InputError(f"no room for a worker of {needed} in a cluster of {there}; ask for less with --cpus, --gpus")
    return room


def _reason(error: Exception) -> str:
    """The cause in Ray's message, without its advice."""
    text = " ".join(str(error).split())
    for begin in ("Worker exit type:", "The actor died because", "The actor is dead because"):
        if begin in text:
            return text[text.index(begin) :].partition(" Some common causes")[0][:300]
    return text[:300]


def _probe(address: str) -> None:
    """Raises InputError when nothing listens at the address; Ray itself would try for minutes."""
    place = address.removeprefix("ray://")
    if place in ("auto", "local"):
        return
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--address {address}: is not HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), _PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from None


def _unreachable(address: str, reason: str) -> InputError:
    return InputError(f"--address {address}: no Ray can be reached there ({reason}); start it with `ray start --head`")
