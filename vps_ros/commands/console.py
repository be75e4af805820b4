"""Output of commands: progress, notes and warnings on stderr, tables on stdout."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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
        """Raises the error for `main`, as older releases of rich do."""
        raise BrokenPipeError


_TICK_SECONDS = 10.0
"""Time between two lines of figures where stderr is not a terminal."""
_stderr = Console(stderr=True)
# A pipe or a log has no width: lines of tables must not be folded there.
_stdout = _Stdout(soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yields the items, with a progress bar on stderr: number, elapsed and remaining time."""
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
    """Prints one line on stderr."""
    _stderr.print(escape(message), highlight=False, soft_wrap=True)


def warn(message: str) -> None:
    """Prints one line on stderr, marked as a warning."""
    _stderr.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Prints log records of the package from level INFO on, as `note` and `warn` do, until the block ends."""
    handler, logger = _ConsoleHandler(), logging.getLogger("vps_ros")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        (warn if record.levelno >= logging.WARNING else note)(text)


@contextmanager
def ticker() -> Iterator[Callable[[str], None]]:
    """Yields a function that shows a line of figures on stderr in place of the line before.

    Where stderr is not a terminal, it prints one line in ten seconds.
    """
    if _stderr.is_terminal:
        with _stderr.status("") as status:
            yield lambda text: status.update(escape(text))
        return
    last = monotonic()

    def show(text: str) -> None:
        nonlocal last
        if monotonic() - last >= _TICK_SECONDS:
            last = monotonic()
            note(text)

    yield show


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], digits: int = 3) -> None:
    """Prints a table on stdout; columns of numbers are aligned right, floats have `digits` decimals."""
    rows = [list(row) for row in rows]
    view = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        numeric = all(_is_number(row[i], i > 0) for row in rows)
        # Folding shows long names completely in a narrow terminal.
        view.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(escape(_cell(value, digits)) for value in row))
    _stdout.print(view)


def _is_number(value: object, or_text: bool) -> bool:
    """`or_text`: also a number as text. Texts in the first column are names of rows, whose digits are no number."""
    if isinstance(value, str):
        return or_text and not value.strip("0123456789.,+-")
    return value is None or isinstance(value, (int, float))


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
