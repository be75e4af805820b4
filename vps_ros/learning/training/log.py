"""The training log for TensorBoard, an option beside log.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError

FOLDER = "tensorboard"


class TensorBoard:
    """Writes log entries as scalars."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, entry: dict[str, Any]) -> None:
        """Writes one entry: its `step`, numbers, and mappings of names to numbers."""
        step = entry["step"]
        for name, value in entry.items():
            if isinstance(value, dict):
                for part, number in value.items():
                    self._writer.add_scalar(f"{name}/{part}", number, step)
            elif name != "step":
                self._writer.add_scalar(f"training/{name}", value, step)


def import_writer() -> Any:
    """The SummaryWriter of torch; raises InputError when TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(f"--tensorboard needs {error.name or 'tensorboard'}; pip install tensorboard") from None
    return SummaryWriter


@contextmanager
def open_tensorboard(writer: Any, folder: Path, step: int) -> Iterator[TensorBoard | None]:
    """A log in the run's folder, or None without a writer; entries of an interrupted run after `step` are removed."""
    if writer is None:
        yield None
        return
    with writer(str(folder / FOLDER), purge_step=step + 1, flush_secs=10) as open_writer:
        yield TensorBoard(open_writer)
