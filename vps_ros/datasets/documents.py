"""JSON of data sets: read whole, and every complaint about it with the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError


class Document:
    """A value inside a JSON file that knows its place, so that what is wrong with it can be told.

    Attributes:
        path: the file.
        place: where in it, as `annotations[3].segments_info`; empty for the whole.
        value: plain Python.
    """

    __slots__ = ("path", "place", "value")

    def __init__(self, path: Path, value: Any, place: str = "") -> None:
        self.path, self.place, self.value = path, place, value

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """A member of the given type; raises InputError when it is absent or of another."""
        value = self.at(key).value
        # JSON's true is no number, whatever Python says.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise self.at(key).wrong(f"is {value!r:.40}, not {wanted}")
        return value

    def at(self, key: str) -> Document:
        """A member that must be there."""
        if not isinstance(self.value, dict):
            raise self.wrong("is not an object { }")
        if key not in self.value:
            raise self.wrong(f"lacks {key!r}")
        return Document(self.path, self.value[key], f"{self.place}.{key}" if self.place else key)

    def items(self, key: str | None = None) -> list[Document]:
        """The entries of a list."""
        values = self if key is None else self.at(key)
        if not isinstance(values.value, list):
            raise values.wrong("is not a list [ ]")
        return [Document(self.path, v, f"{values.place}[{i}]") for i, v in enumerate(values.value)]

    def wrong(self, what: str) -> InputError:
        """The error that says what is wrong here."""
        return InputError(f"{self.path}: {self.place or 'the document'} {what}")


def load_document(path: str | Path, expected: str) -> Document:
    """The whole of a JSON file.

    Raises:
        InputError: it is absent, cannot be read, or is no JSON, with line and column.
    """
    path = Path(path)
    try:
        return Document(path, json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {expected}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {expected}") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: is not whole JSON ({error.msg} at {at}); copy or write it again") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({type(error).__name__}); {expected}") from None
