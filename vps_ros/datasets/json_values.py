"""JSON files of data sets, with errors that name the place in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError


class JsonValue:
    """A value in a JSON file, with its place for errors.

    Attributes:
        path: the file.
        place: in the file, as `annotations[3].segments_info`; empty for all of it.
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
        # Python's bool is an int, JSON's is not.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise self.at(key).error(f"is {value!r:.40}, not {wanted}")
        return value

    def at(self, key: str) -> JsonValue:
        """A member that must be there."""
        if not isinstance(self.value, dict):
            raise self.error("is not an object { }")
        if key not in self.value:
            raise self.error(f"lacks {key!r}")
        return JsonValue(self.path, self.value[key], f"{self.place}.{key}" if self.place else key)

    def items(self, key: str | None = None) -> list[JsonValue]:
        """The entries of a list."""
        values = self if key is None else self.at(key)
        if not isinstance(values.value, list):
            raise values.error("is not a list [ ]")
        return [JsonValue(self.path, v, f"{values.place}[{i}]") for i, v in enumerate(values.value)]

    def error(self, what: str) -> InputError:
        """The error for this place in the file."""
        return InputError(f"{self.path}: {self.place or 'the document'} {what}")


def load_json(path: str | Path, expected: str) -> JsonValue:
    """The content of a JSON file.

    Raises:
        InputError: it is absent, cannot be read, or is no JSON, with line and column.
    """
    path = Path(path)
    try:
        return JsonValue(path, json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {expected}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {expected}") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: is not complete JSON ({error.msg} at {at}); copy or write it again") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({type(error).__name__}); {expected}") from None
