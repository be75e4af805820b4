"""What the class ids of two recordings mean: one taxonomy for both, by the names that their messages give."""

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
"""Entry of a class table for an id that stands for no class."""
_OWN = "own"
"""Name of a taxonomy that the messages leave without one."""
_STEP = 0.6180339887498949
_COLORS = {c.name: c.color for t in ALL.values() for c in t.classes}


@dataclass(frozen=True)
class ClassNames:
    """What the messages of one side say of its classes.

    Attributes:
        where: bag and topic, for errors.
        taxonomy: the name that PanopticSegments gives; "" where there are none.
        names: class id -> name, of PanopticSegments and of LabelInfo; empty where there is neither.
        things: class id -> whether it is a thing, of PanopticSegments.
    """

    where: str
    taxonomy: str = ""
    names: Mapping[int, str] = field(default_factory=dict)
    things: Mapping[int, bool] = field(default_factory=dict)


def common_taxonomy(gt: ClassNames, pred: ClassNames, chosen: Taxonomy | None = None) -> Taxonomy:
    """The classes by which two sides are compared: those of the truth, where it names them.

    A data set's own taxonomy is taken where the names are its, and the messages say that it is this one.

    Args:
        chosen: take this one.

    Raises:
        InputError: neither side names its classes, or nothing says which of them are things.
    """
    if chosen is not None:
        return chosen
    names = _names(gt, pred)
    if not names:
        raise InputError(f"{gt.where}: neither it nor {pred.where} names its classes; choose theirs with --taxonomy")
    told = next((side for side in (gt, pred) if side.taxonomy), None)
    if told and told.taxonomy in ALL and _fits(ALL[told.taxonomy], names, _things(told)):
        return ALL[told.taxonomy]
    things = _things(pred) | _things(gt)
    if not things:
        fitting = [t for t in ALL.values() if _fits(t, names, things)]
        if len(fitting) == 1:
            return fitting[0]
        known = f" ({', '.join(t.name for t in fitting)})" if fitting else ""
        raise InputError(f"{gt.where}: nothing says which classes are things; choose a taxonomy with --taxonomy{known}")
    return _made(told.taxonomy if told else _OWN, names, things, gt.where)


def class_table(side: ClassNames, taxonomy: Taxonomy) -> NDArray[np.int16]:
    """int16 [1000], class id of a side -> class id of the taxonomy, by name; UNKNOWN for one that is not in it.

    The ids of a side that names no classes are the taxonomy's own. Void stays void.

    Raises:
        InputError: a class of which the side has segments is not in the taxonomy.
    """
    table = np.full(MAX_CLASS_ID + 2, UNKNOWN, np.int16)
    by_name = {_plain(c.name): c.id for c in taxonomy.classes}
    pairs = {i: by_name.get(_plain(name), UNKNOWN) for i, name in side.names.items()} if side.names else None
    for ours, known in (pairs if pairs is not None else {i: i for i in taxonomy.by_id}).items():
        if known == UNKNOWN and ours in side.things:
            raise InputError(
                f"{side.where}: class {side.names[ours]!r} (id {ours}) is not in taxonomy {taxonomy.name}; "
                "compare what has the classes of the ground truth, or choose with --taxonomy"
            )
        table[ours] = known
    if table[VOID_ID] == UNKNOWN:
        table[VOID_ID] = VOID_ID
    return table


def _names(gt: ClassNames, pred: ClassNames) -> dict[int, str]:
    """Those of the truth, and of the prediction too where both speak of one taxonomy: each names what it has seen."""
    if gt.names and gt.taxonomy != pred.taxonomy:
        return dict(gt.names)
    names = {**pred.names, **gt.names}
    agree = all(_plain(names[i]) == _plain(name) for i, name in pred.names.items())
    return names if agree and len({_plain(n) for n in names.values()}) == len(names) else dict(gt.names)


def _things(side: ClassNames) -> dict[str, bool]:
    return {_plain(side.names[i]): thing for i, thing in side.things.items()}


def _fits(taxonomy: Taxonomy, names: Mapping[int, str], things: Mapping[str, bool]) -> bool:
    ids = {i: _plain(name) for i, name in names.items()}
    own = {c.id: _plain(c.name) for c in taxonomy.classes}
    kinds = {_plain(c.name): c.isthing for c in taxonomy.classes}
    # PanopticSegments name the classes that were seen, which need not be all.
    return ids.items() <= own.items() and all(kinds.get(name, thing) == thing for name, thing in things.items())


def _made(name: str, names: Mapping[int, str], things: Mapping[str, bool], where: str) -> Taxonomy:
    """Ids are kept where they leave room for void."""
    ids = sorted(names)
    if len(ids) > VOID_ID:
        raise InputError(f"{where}: names {len(ids)} classes; {VOID_ID} at most can be compared")
    numbers = dict(zip(ids, ids if ids[-1] < VOID_ID else range(len(ids)), strict=True))
    return Taxonomy(
        name,
        tuple(ClassInfo(numbers[i], names[i], things.get(_plain(names[i]), False), _color(i, names[i])) for i in ids),
    )


def _color(number: int, name: str) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(number * _STEP % 1.0, 0.6, 0.9)
    return _COLORS.get(name, (round(red * 255), round(green * 255), round(blue * 255)))


def _plain(name: str) -> str:
    """Traffic light, traffic_light and traffic-light are one class."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())
