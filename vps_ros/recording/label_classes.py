"""One taxonomy for the class ids of two recordings, by the class names in their messages."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.taxonomies import ALL
from vps_ros.taxonomy import MAX_CLASS_ID, VOID_ID, ClassInfo, Taxonomy

UNKNOWN = -1
"""Entry of a class table for an id without a class."""
_OWN = "own"
"""Name of a taxonomy if the messages give none."""
_GOLDEN_RATIO = 0.6180339887498949
"""Step of the hue, by which consecutive classes get distant colours."""
_COLORS = {c.name: c.color for t in ALL.values() for c in t.classes}


@dataclass(frozen=True)
class RecordedClasses:
    """The classes in the messages of one recording.

    Attributes:
        where: bag and topic, for error messages.
        taxonomy: name of the taxonomy, from PanopticSegments; "" if there are none.
        names: class id -> name, from PanopticSegments and LabelInfo; empty if there is neither.
        things: class id -> whether it is a thing, from PanopticSegments.
    """

    where: str
    taxonomy: str = ""
    names: Mapping[int, str] = field(default_factory=dict)
    things: Mapping[int, bool] = field(default_factory=dict)


def common_taxonomy(gt: RecordedClasses, pred: RecordedClasses, chosen: Taxonomy | None = None) -> Taxonomy:
    """The taxonomy for comparing two recordings: that of the ground truth, if it names its classes.

    The built-in taxonomy of a data set is used if the messages name it and its class names match.

    Args:
        chosen: overrides all of this.

    Raises:
        InputError: neither recording names its classes, or it is unknown which of them are things.
    """
    if chosen is not None:
        return chosen
    names = _names(gt, pred)
    if not names:
        raise InputError(f"{gt.where}: neither it nor {pred.where} names its classes; choose theirs with --taxonomy")
    named = next((side for side in (gt, pred) if side.taxonomy), None)
    if named and named.taxonomy in ALL and _fits(ALL[named.taxonomy], names, _things(named)):
        return ALL[named.taxonomy]
    things = _things(pred) | _things(gt)
    if not things:
        fitting = [t for t in ALL.values() if _fits(t, names, things)]
        if len(fitting) == 1:
            return fitting[0]
        known = f" ({', '.join(t.name for t in fitting)})" if fitting else ""
        raise InputError(f"{gt.where}: does not say which classes are things; choose a taxonomy with --taxonomy{known}")
    return _create(named.taxonomy if named else _OWN, names, things, gt.where)


def taxonomy_id_table(side: RecordedClasses, taxonomy: Taxonomy) -> NDArray[np.int16]:
    """int16 [1000], class id of a recording -> class id of the taxonomy, by name; UNKNOWN if it is not in it.

    A recording that names no classes is assumed to use the ids of the taxonomy. Void stays void.

    Raises:
        InputError: a class that has segments in the recording is not in the taxonomy.
    """
    table = np.full(MAX_CLASS_ID + 2, UNKNOWN, np.int16)
    by_name = {_normalise(c.name): c.id for c in taxonomy.classes}
    pairs = {i: by_name.get(_normalise(name), UNKNOWN) for i, name in side.names.items()} if side.names else None
    for source, known in (pairs if pairs is not None else {i: i for i in taxonomy.by_id}).items():
        if known == UNKNOWN and source in side.things:
            raise InputError(
                f"{side.where}: class {side.names[source]!r} (id {source}) is not in taxonomy {taxonomy.name}; "
                "both need the classes of the ground truth; or choose a taxonomy with --taxonomy"
            )
        table[source] = known
    if table[VOID_ID] == UNKNOWN:
        table[VOID_ID] = VOID_ID
    return table


def _names(gt: RecordedClasses, pred: RecordedClasses) -> dict[int, str]:
    """Of the ground truth; and of the prediction if both have one taxonomy, since each names only what it has seen."""
    if gt.names and gt.taxonomy != pred.taxonomy:
        return dict(gt.names)
    names = {**pred.names, **gt.names}
    agree = all(_normalise(names[i]) == _normalise(name) for i, name in pred.names.items())
    return names if agree and len({_normalise(n) for n in names.values()}) == len(names) else dict(gt.names)


def _things(side: RecordedClasses) -> dict[str, bool]:
    return {_normalise(side.names[i]): thing for i, thing in side.things.items()}


def _fits(taxonomy: Taxonomy, names: Mapping[int, str], things: Mapping[str, bool]) -> bool:
    ids = {i: _normalise(name) for i, name in names.items()}
    own = {c.id: _normalise(c.name) for c in taxonomy.classes}
    kinds = {_normalise(c.name): c.isthing for c in taxonomy.classes}
    # PanopticSegments name only the classes that were seen.
    return ids.items() <= own.items() and all(kinds.get(name, thing) == thing for name, thing in things.items())


def _create(name: str, names: Mapping[int, str], things: Mapping[str, bool], where: str) -> Taxonomy:
    """Keeps the ids unless one of them equals that of void."""
    ids = sorted(names)
    if len(ids) > VOID_ID:
        raise InputError(f"{where}: names {len(ids)} classes; {VOID_ID} at most can be compared")
    numbers = dict(zip(ids, ids if ids[-1] < VOID_ID else range(len(ids)), strict=True))
    return Taxonomy(
        name,
        tuple(
            ClassInfo(numbers[i], names[i], things.get(_normalise(names[i]), False), _color(i, names[i])) for i in ids
        ),
    )


def _color(number: int, name: str) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_RATIO % 1.0, 0.6, 0.9)
    return _COLORS.get(name, (round(red * 255), round(green * 255), round(blue * 255)))


def _normalise(name: str) -> str:
    """Traffic light, traffic_light and traffic-light are the same class."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())
