"""The parts of the HTML report. Here: numbers as text, tables as data, and the templates that make HTML of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vps_ros.drawing.colors import Color, identity_color, text_color

UNKNOWN = "–"
_COLORS, _DASHES = 6, 3
"""Series that the style sheet tells apart by colour, and series of one colour by their dashes."""


class Cell(NamedTuple):
    """One cell of a table; `text` is escaped unless it is Markup.

    Attributes:
        kind, style: CSS class and properties.
        title: shown when the pointer rests on the cell.
        color: of a sample beside the text.
        best: printed in bold.
    """

    text: object = ""
    kind: str = ""
    title: str = ""
    style: str = ""
    color: Color | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """The cells of a table; the first of each row and of the foot is the row's name. `kind`: CSS classes."""

    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Cell] = ()
    kind: str = ""


def percent(value: float | None) -> str:
    """A share in percent without the sign: 0.5 is 50.0. A dash for NaN and None."""
    return UNKNOWN if value is None or value != value else f"{100 * value:.1f}".replace("-", "−")


def plural(number: int, noun: str, several: str = "") -> str:
    """The number with its noun: 1 frame, 2 frames."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def bar(value: float | None, best: bool = False) -> Cell:
    """A share as a number over a bar of its length."""
    share = 0.0 if value is None or value != value else min(max(value, 0.0), 1.0)
    return Cell(percent(value), "bar", style=f"--share:{share:.3f}", best=best)


def heads(names: Iterable[str], meanings: Mapping[str, str] | None = None) -> list[Cell]:
    """Cells of a head; a name with a meaning shows it when the pointer rests on it."""
    meanings = meanings or {}
    return [Cell(name, "kind" if name == "kind" else "", meanings.get(name, "")) for name in names]


def cells(*values: object) -> list[Cell]:
    """One cell for each value; integers with thousands separators."""
    return [Cell(f"{value:,}" if isinstance(value, int) else value) for value in values]


def series(number: int) -> str:
    """The CSS classes of the curve of this number, and of its entry in a legend."""
    return f"s{number % _COLORS} d{number // _COLORS % _DASHES}"


def hexadecimal(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def macro(name: str, *arguments: Any) -> Markup:
    """HTML of a macro in templates/macros.html."""
    return getattr(_environment().get_template("macros.html").module, name)(*arguments)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        auto_reload=False,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (percent, plural, series, hexadecimal, identity_color, text_color)
    environment.filters |= {function.__name__: function for function in filters}
    return environment
