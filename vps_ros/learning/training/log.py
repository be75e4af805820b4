"""The training log for TensorBoard, beside log.jsonl, where people ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError

FOLDER = "tensorboard"


class Board:
    """Writes entries of the log as scalars."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, entry: dict[str, Any]) -> None:
        """`entry` has a step, numbers, and mappings of names to numbers."""
        step = entry["step"]
        for name, value in entry.items():
            if isinstance(value, dict):
                for part, number in value.items():
                    self._writer.add_scalar(f"{name}/{part}", number, step)
            elif name != "step":
                self._writer.add_scalar(f"training/{name}", value, step)


def import_writer() -> Any:
    """TensorBoard's writer; raises InputError when it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(f"--tensorboard needs {error.name or 'tensorboard'}; pip install tensorboard") from None
    return SummaryWriter


@contextmanager
def board_of(writer: Any, folder: Path, step: int) -> Iterator[Board | None]:
    """A board in the run's folder, or none without a writer; what an interrupted run logged after `step` is dropped."""
    if writer is None:
        yield None
        return
    with writer(str(folder / FOLDER), purge_step=step + 1, flush_secs=10) as open_writer:
        yield Board(open_writer)
