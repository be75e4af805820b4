"""Data-parallel training on CPUs: each process computes the gradient of a part of the batch, all use the mean gradient.

On CPUs that run other programs too, two threads inside one operator wait for each other many times in a step; two
processes synchronise once. Every process makes the same update, so that only the first one is saved.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn

from vps_ros.errors import InputError

_ERROR_FILE = "error-{}"
"""Name of the file in which a worker writes the message of its InputError."""
_SECONDS_TO_END = 5.0
"""For the end of a process after its connection was closed."""
TIMEOUT = timedelta(hours=2)
"""For an exchange: the other workers wait while the first one validates and writes checkpoints."""


class WorkerGroup:
    """This process among `size` workers; the first has rank 0. A group of one exchanges nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def average_gradients(self, model: nn.Module, stop: bool, share: float = 0.0) -> tuple[bool, float]:
        """Replaces every gradient by its mean over the workers.

        Args:
            stop: whether this worker wants to stop after this step.
            share: progress of the run.

        Returns whether any worker wants to stop, and `share` of the first worker.
        """
        if self.size == 1:
            return stop, share
        parameters = [p for p in model.parameters() if p.grad is not None]
        extra = torch.tensor([float(stop), 0.0 if self.rank else share])
        flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [extra])
        distributed.all_reduce(flat)
        flat[:-2] /= self.size
        for p, part in zip(parameters, _split(flat, parameters), strict=True):
            p.grad.copy_(part)
        return bool(flat[-2] > 0), float(flat[-1])

    def broadcast_weights(self, model: nn.Module) -> None:
        """Copies weights and buffers of the first worker to all others."""
        if self.size > 1:
            for value in model.state_dict().values():
                # The weights of convolutions are in channels-last memory format.
                plain = value.contiguous()
                distributed.broadcast(plain, 0)
                value.copy_(plain)

    def gather(self, parts: list[Tensor | None], like: list[Tensor]) -> list[Tensor]:
        """All parts, rounded to float16. One worker has computed each part, the others have None.

        Args:
            like: tensors with the shapes and types of the parts.
        """
        if self.size == 1:
            return parts
        flat = torch.cat(
            [
                torch.zeros(t.numel(), dtype=torch.half) if p is None else p.reshape(-1).half()
                for p, t in zip(parts, like, strict=True)
            ]
        )
        distributed.all_reduce(flat)
        return [part.to(t.dtype) for part, t in zip(_split(flat, like), like, strict=True)]


def _split(flat: Tensor, parameters: list[Tensor]) -> Iterator[Tensor]:
    start = 0
    for p in parameters:
        yield flat[start : start + p.numel()].view_as(p)
        start += p.numel()


@contextmanager
def worker_group(size: int, work: Any, *args: Any) -> Iterator[WorkerGroup]:
    """The first worker of a group; the others run `work(group, *args)` in processes of their own until it returns.

    Raises InputError with the message of a worker that raised it, or when a worker was killed; an exception of torch,
    with the traceback of the worker, when one failed otherwise.
    """
    if size == 1:
        yield WorkerGroup()
        return
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        others = multiprocessing.start_processes(
            _run_worker, (size, store, work, args), nprocs=size - 1, join=False, daemon=True, start_method="spawn"
        )
        try:
            _connect(store, 0, size)
            yield WorkerGroup(0, size)
            others.join()
        except RuntimeError:
            # The end of another worker closes the connection, which raises RuntimeError here.
            ended = wait([process.sentinel for process in others.processes], timeout=_SECONDS_TO_END)
            for process in others.processes:
                if process.sentinel in ended:
                    process.join(_SECONDS_TO_END)
            for error in sorted(Path(folder).glob(_ERROR_FILE.format("*"))):
                raise InputError(error.read_text()) from None
            if any((process.exitcode or 0) < 0 for process in others.processes):
                raise InputError(
                    "workers: a process of the training was killed; if memory ran out, use fewer workers or a smaller "
                    "batch"
                ) from None
            # Raises the error of the worker, with its traceback.
            others.join(timeout=0)
            raise
        finally:
            for process in others.processes:
                process.terminate()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def _connect(store: str, rank: int, size: int) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=TIMEOUT)


def _run_worker(index: int, size: int, store: str, work: Any, args: tuple) -> None:
    # Ctrl-C signals every process of a session: only the first worker handles it, and the others stop with it.
    os.setsid()
    os.environ["OMP_NUM_THREADS"] = "1"
    _connect(store, index + 1, size)
    try:
        work(WorkerGroup(index + 1, size), *args)
    except InputError as error:
        Path(store).with_name(_ERROR_FILE.format(index + 1)).write_text(str(error))
    finally:
        distributed.destroy_process_group()
