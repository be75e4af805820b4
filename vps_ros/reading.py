"""Strict reading of YAML and JSON into dataclasses: an unknown, missing or wrong entry is one line that names it.

The one reader of configuration files, training recipes and the metadata of model files. Its own code, because the
entries of these files depend on each other (the tracker decides which parameters there are, the kind of model which
losses): a schema library would need as much code around it. `load_json` reads JSON files of data sets entry by entry.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vps_ros.errors import InputError


def read_yaml(path: str | Path, example: str = "config/vps.yaml") -> Any:
    """The content of a YAML file; raises InputError when it cannot be read. `example` is named where it is missing."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of a YAML file such as {example}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None


def read_file(kind: Any, path: str | Path, example: str = "config/vps.yaml") -> Any:
    """A dataclass from a YAML file; raises InputError that names the file and the entry that is wrong."""
    try:
        return read_as(kind, read_yaml(path, example))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def read_as(kind: Any, value: Any, where: str = "", hints: Mapping[str, Any] | None = None) -> Any:
    """The value converted to `kind`; raises InputError that names the entry and what is expected there.

    Args:
        kind: a dataclass, a union of dataclasses with a TAG (see `choose`), `X | None`, a Literal, a tuple, a number,
            str, bool, or dict for any mapping. Fields of a dataclass may have metadata: `name`, the key in the file
            where it differs from the field's name; `former`, a key of earlier releases, which is still read, with a
            DeprecationWarning; and the limits of `check_limits`.
        where: path of the entry in the file, for messages, such as "schedule.phases[0]".
        hints: types of fields that the annotation of the dataclass leaves open.
    """
    place = where or "content"
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = typing.get_args(kind)
        if type(None) in kinds:
            kinds = tuple(k for k in kinds if k is not type(None))
            if value is None:
                return None
        return read_as(kinds[0] if len(kinds) == 1 else choose(kinds, value, place), value, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else _read_dataclass(kind, value, where, hints or {})
    if typing.get_origin(kind) is typing.Literal:
        check_limits(value, place, choices=typing.get_args(kind))
        return value
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{place}: {value!r} is not a list")
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(value) != len(kinds):
            raise InputError(f"{place}: {value!r} has {len(value)} entries, not {len(kinds)}")
        return tuple(read_as(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if kind is float and type(value) is int:
        value = float(value)
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if type(value) is not kind:
        hint = "; YAML reads 1e-3 as text, write 1.0e-3" if isinstance(value, str) and kind is float else ""
        raise InputError(f"{place}: {value!r} is not of type {kind.__name__}{hint}")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{place}: {value!r} is not a finite number")
    return value


def _read_dataclass(kind: Any, value: Any, where: str, hints: Mapping[str, Any]) -> Any:
    place = where or "content"
    if not isinstance(value, Mapping):
        raise InputError(f"{place}: not a mapping of names to values")
    types_of = typing.get_type_hints(kind) | dict(hints)
    fields = {entry_name(f): f for f in dataclasses.fields(kind)}
    for name, former in ((n, f.metadata.get("former")) for n, f in fields.items()):
        if former in value and name not in value:
            value = {name if key == former else key: one for key, one in value.items()}
            warnings.warn(f"{place}: entry {former!r} is now called {name!r}", DeprecationWarning, stacklevel=3)
    for name in value:
        if name not in fields:
            raise InputError(f"{place}: unknown entry {name!r}; {nearest(name, fields) or 'drop it'}")
    for name, f in fields.items():
        if f.default is f.default_factory is dataclasses.MISSING and name not in value:
            raise InputError(f"{place}: lacks {name!r}")
    found = {}
    for name, one in value.items():
        f, path = fields[name], f"{where}.{name}".lstrip(".")
        found[f.name] = read_as(types_of[f.name], one, path)
        check_limits(found[f.name], path, **{k: v for k, v in f.metadata.items() if k in ("low", "high", "choices")})
    return kind(**found)


def check_limits(
    value: Any, where: str, low: float | None = None, high: float | None = None, choices: Collection[Any] = ()
) -> None:
    """Raises InputError when a value, or an element of a tuple, is none of `choices`, or is outside low..high."""
    for one in value if isinstance(value, tuple) else (value,):
        if choices and one not in choices:
            near = nearest(one, choices)
            raise InputError(f"{where}: {one!r} is not one of {', '.join(map(str, choices))}{near and '; ' + near}")
        # Written so that NaN, which compares false with everything, is refused too.
        if (low is not None and not one >= low) or (high is not None and not one <= high):
            least, most = "-inf" if low is None else f"{low:g}", "inf" if high is None else f"{high:g}"
            raise InputError(f"{where}: {one!r} is outside {least}..{most}")


def nearest(name: Any, known: Iterable[Any]) -> str:
    """The question "did you mean ...?" with the most similar known name; empty where none is similar."""
    near = difflib.get_close_matches(str(name), [str(one) for one in known], 1)
    return f"did you mean {near[0]}?" if near else ""


def choose(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """One of several dataclasses: that whose NAMES have the value's entry TAG; without such an entry, the first.

    Raises InputError for a name that none of them has.
    """
    name = value.get(kinds[0].TAG, kinds[0].NAMES[0]) if isinstance(value, Mapping) else kinds[0].NAMES[0]
    names = {n: kind for kind in kinds for n in kind.NAMES}
    if not isinstance(name, str) or name not in names:
        hint = nearest(name, names) or f"there are {', '.join(names)}"
        raise InputError(f"{where}: unknown {kinds[0].TAG} {name!r}; {hint}")
    return names[name]


def entry_name(field: dataclasses.Field) -> str:
    """The key of a dataclass field in the file."""
    return field.metadata.get("name", field.name)


def read_size(text: str, where: str) -> tuple[int, int]:
    """Width and height of a text such as "640x192"; raises InputError that names `where` it was given."""
    width, _, height = text.strip().lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"{where} {text!r}: write it as WIDTHxHEIGHT in pixels, for example 640x192")
    return int(width), int(height)


def plain(value: Any) -> Any:
    """A dataclass as plain values that read_as converts back."""
    if dataclasses.is_dataclass(value):
        return {entry_name(f): plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


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
