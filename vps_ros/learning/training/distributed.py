"""Several processes that learn together, one thread each: each takes a part of the batch, all take the mean gradient.

On CPUs that are shared with other work, two threads inside one operator wait for each other many times in a step; two
processes meet once. Every process makes the same update, so that only the first needs to be saved.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn

from vps_ros.errors import InputError

_REFUSED = "refused-{}"
"""Name of the file in which a member says what is wrong with what it was given."""
PATIENCE = timedelta(hours=2)
"""For the others: the first process validates and writes checkpoints meanwhile, and may be paused."""


class Team:
    """This process among `size`; the first has rank 0. A team of one does nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def mean_gradients(self, model: nn.Module, stop: bool, share: float = 0.0) -> tuple[bool, float]:
        """Replaces every gradient by its mean over the team.

        Returns whether any member wants to stop after this step, and the first member's `share`.
        """
        if self.size == 1:
            return stop, share
        parameters = [p for p in model.parameters() if p.grad is not None]
        said = torch.tensor([float(stop), 0.0 if self.rank else share])
        flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [said])
        distributed.all_reduce(flat)
        flat[:-2] /= self.size
        for p, part in zip(parameters, _split(flat, parameters), strict=True):
            p.grad.copy_(part)
        return bool(flat[-2] > 0), float(flat[-1])

    def same_weights(self, model: nn.Module) -> None:
        """Gives every member the first one's weights and buffers."""
        if self.size > 1:
            for value in model.state_dict().values():
                # A convolution's weights lie in memory in another order.
                plain = value.contiguous()
                distributed.broadcast(plain, 0)
                value.copy_(plain)

    def gathered(self, parts: list[Tensor | None], like: list[Tensor]) -> list[Tensor]:
        """Every part, each made by one member (None elsewhere) with the shape of its `like`; kept to half precision."""
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
def team_of(size: int, work: Any, *args: Any) -> Iterator[Team]:
    """The first member of a team; the others run `work(team, *args)` in processes of their own until it returns.

    Raises InputError in the words of another member that did, RuntimeError when one failed otherwise.
    """
    if size == 1:
        yield Team()
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        others = multiprocessing.start_processes(
            _member, (size, meeting, work, args), nprocs=size - 1, join=False, daemon=True, start_method="spawn"
        )
        _meet(meeting, 0, size)
        try:
            yield Team(0, size)
            others.join()
        except RuntimeError:
            # What another member met ends the exchange between them, which is all that is seen of it here.
            for told in sorted(Path(folder).glob(_REFUSED.format("*"))):
                raise InputError(told.read_text()) from None
            raise
        finally:
            for process in others.processes:
                process.terminate()
            distributed.destroy_process_group()


def _meet(meeting: str, rank: int, size: int) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=PATIENCE
    )


def _member(index: int, size: int, meeting: str, work: Any, args: tuple) -> None:
    # Ctrl-C reaches every process of a session: only the first member may hear it, and tells the others when to stop.
    os.setsid()
    os.environ["OMP_NUM_THREADS"] = "1"
    _meet(meeting, index + 1, size)
    try:
        work(Team(index + 1, size), *args)
    except InputError as error:
        Path(meeting).with_name(_REFUSED.format(index + 1)).write_text(str(error))
    distributed.destroy_process_group()
