"""What people see while a command runs: progress, warnings and tables, all on stderr or stdout."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Item = TypeVar("Item")


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        """Lets main tell what comes of it, as older releases of rich do."""
        raise BrokenPipeError


_QUIET = 10.0
_stderr = Console(stderr=True)
# A pipe or a log has no width of its own: tables must not be folded there.
_stdout = _Stdout(soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on stderr that shows how far, how fast and how long still."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_stderr) as bar:
        yield from bar.track(items, total=total, description=label)


def note(message: str) -> None:
    """One line for people, on stderr."""
    _stderr.print(escape(message), highlight=False, soft_wrap=True)


def warn(message: str) -> None:
    """One line that says what was lost or is odd, on stderr."""
    _stderr.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Shows what the package logs meanwhile, from INFO on, as `note` and `warn` do."""
    handler, logger = _Shown(), logging.getLogger("vps_ros")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Shown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        (warn if record.levelno >= logging.WARNING else note)(text)


@contextmanager
def ticker() -> Iterator[Callable[[str], None]]:
    """Shows a line of figures on stderr, each over the one before; one in ten seconds where that is no terminal."""
    if _stderr.is_terminal:
        with _stderr.status("") as status:
            yield lambda text: status.update(escape(text))
        return
    last = monotonic()

    def show(text: str) -> None:
        nonlocal last
        if monotonic() - last >= _QUIET:
            last = monotonic()
            note(text)

    yield show


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], digits: int = 3) -> None:
    """A table on stdout; numbers are set to the right, floats with `digits` decimals."""
    rows = [list(row) for row in rows]
    view = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        numeric = all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        # Folding keeps every letter of a long name in a narrow terminal.
        view.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(escape(_cell(value, digits)) for value in row))
    _stdout.print(view)


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
