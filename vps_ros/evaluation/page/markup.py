"""Small pieces of HTML that every part of the page uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

UNKNOWN = "–"
TALL = 30
"""A table of more rows scrolls in a window of its own, so that the reader gets past it."""


def percent(value: float) -> str:
    """A share as a number of percent, without the sign: 0.5 is 50.0. A dash for NaN."""
    return UNKNOWN if value != value else f"{100 * value:.1f}".replace("-", "−")


def plural(number: int, noun: str, several: str = "") -> str:
    """The number with its noun: 1 frame, 2 frames."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def section(anchor: str, heading: str, meaning: str, body: str) -> str:
    """A part of the page with a heading, and a sentence (HTML) on how to read it."""
    words = f"<p>{meaning}</p>" if meaning else ""
    return f"<section id='{anchor}'><h2>{escape(heading)}</h2>{words}{body}</section>"


def table(head: Iterable[str], rows: Iterable[str], foot: str = "", kind: str = "") -> str:
    """A table that scrolls by itself where it is wider than the page; `rows` and `foot` are cells."""
    rows = tuple(rows)
    window = "scroll tall" if len(rows) > TALL else "scroll"
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    end = f"<tfoot><tr>{foot}</tr></tfoot>" if foot else ""
    return (
        f"<div class='{window}' tabindex='0'><table class='{kind}'><thead><tr>{''.join(head)}</tr></thead>"
        f"<tbody>{body}</tbody>{end}</table></div>"
    )


def heads(names: Iterable[str], meanings: Mapping[str, str] | None = None) -> list[str]:
    """Cells of a head; a meaning is shown where the pointer rests."""
    meanings = meanings or {}
    kinds = {"kind": " class=kind"}
    return [f"<th scope=col{kinds.get(name, '')}{_title(meanings.get(name, ''))}>{escape(name)}</th>" for name in names]


def name_cell(name: str, color: tuple[int, int, int] | None = None, kind: str = "name", meaning: str = "") -> str:
    """The head of a row, with a sample of its colour."""
    sample = f"<i class=sample style='background:{hexadecimal(color)}'></i>" if color else ""
    return f"<th scope=row class='{kind}'{_title(meaning)}>{sample}{escape(name)}</th>"


def cells(*values: object) -> str:
    return "".join(f"<td>{value}</td>" for value in values)


def bar(value: float, best: bool = False) -> str:
    """A share as a number over a bar of its length."""
    share = 0.0 if value != value else min(max(value, 0.0), 1.0)
    return f"<td class=bar style='--share:{share:.3f}'>{strong(percent(value), best)}</td>"


def strong(text: str, best: bool) -> str:
    return f"<b>{text}</b>" if best else text


def hexadecimal(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _title(words: str) -> str:
    return f' title="{escape(words)}"' if words else ""
