"""YAML as dataclasses, read strictly: what is unknown, missing or of the wrong type is one clear line."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vps_ros.errors import InputError


def read_yaml(path: str | Path) -> Any:
    """What a recipe's file holds; raises InputError when it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a training recipe, as config/train/streets-s.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None


def kind_of(path: str | Path) -> str:
    """What the recipe in a file is for: its entry `kind`, or "model"; raises InputError when it cannot be read."""
    content = read_yaml(path)
    return str(content.get("kind", "model")) if isinstance(content, Mapping) else "model"


def read_recipe(kind: Any, path: str | Path) -> Any:
    """The recipe in a file as a dataclass; raises InputError that names the file and the entry that is wrong."""
    try:
        return read_as(kind, read_yaml(path))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def read_as(kind: Any, value: Any, where: str = "", hints: Mapping[str, Any] | None = None) -> Any:
    """The value as `kind`; raises InputError that says where it cannot be.

    `kind` is a dataclass, a union of dataclasses with a TAG, a tuple, a number, a text, a switch, or dict for any
    mapping. `hints` names the kinds of entries whose annotation does not.
    """
    place = where or "recipe"
    if typing.get_origin(kind) is types.UnionType:
        return read_as(chosen(typing.get_args(kind), value, place), value, where)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise InputError(f"{place}: holds no mapping of names to values")
        hints = typing.get_type_hints(kind) | dict(hints or {})
        fields = {entry_name(f): f for f in dataclasses.fields(kind)}
        for name in value:
            if name not in fields:
                raise InputError(f"{place}: unknown entry {name!r}; {_near(name, fields) or 'drop it'}")
        for name, f in fields.items():
            if f.default is f.default_factory is dataclasses.MISSING and name not in value:
                raise InputError(f"{place}: lacks {name!r}")
        return kind(
            **{fields[n].name: read_as(hints[fields[n].name], v, f"{where}.{n}".lstrip(".")) for n, v in value.items()}
        )
    if typing.get_origin(kind) is typing.Literal:
        known = typing.get_args(kind)
        if value not in known:
            raise InputError(f"{place}: {value!r}; there are {', '.join(map(repr, known))}")
        return value
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{place}: {value!r} is not a list")
        if kinds[-1] is Ellipsis:
            return tuple(read_as(kinds[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(kinds):
            raise InputError(f"{place}: {value!r} has {len(value)} entries, not {len(kinds)}")
        return tuple(read_as(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if type(value) is not kind:
        hint = "; YAML reads 1e-3 as text, write 1.0e-3" if isinstance(value, str) and kind is float else ""
        raise InputError(f"{place}: {value!r} is not of type {kind.__name__}{hint}")
    return value


def entry_name(field: dataclasses.Field) -> str:
    """How YAML calls a field of a dataclass; some names are Python's own."""
    return field.metadata.get("name", field.name)


def plain(value: Any) -> Any:
    """A dataclass as plain values that read_as reads back."""
    if dataclasses.is_dataclass(value):
        return {entry_name(f): plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def chosen(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """Of several dataclasses, the one whose NAMES have what the value says under their TAG; unsaid, the first."""
    name = value.get(kinds[0].TAG, kinds[0].NAMES[0]) if isinstance(value, Mapping) else kinds[0].NAMES[0]
    names = {n: kind for kind in kinds for n in kind.NAMES}
    if not isinstance(name, str) or name not in names:
        near = _near(name, names)
        raise InputError(f"{place}: unknown {kinds[0].TAG} {name!r}; {near or 'there are ' + ', '.join(names)}")
    return names[name]


def _near(name: Any, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), names, 1)
    return f"did you mean {near[0]}?" if near else ""
