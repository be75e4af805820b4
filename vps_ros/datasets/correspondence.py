"""How the classes of a data set stand to those of a model: equal, a group of them, or without any.

A data set that calls traffic lights and traffic signs both "sign" still says something of each such pixel: it is one of
two classes. `LabelCodes` gives every such group a value of its own in label maps, beside the ids of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, Taxonomy

VOID = "void"
"""As a member of a group: the pixel may show something that is none of the model's classes."""

Groups = Mapping[str, Sequence[str]]
"""Class of a data set -> names of the model's classes that it may be. What is not listed corresponds by its name."""


@dataclass(frozen=True)
class LabelCodes:
    """What each value 0..255 of a label map says.

    Attributes:
        taxonomy: of the model, C classes.
        index: int64 [256], class, -1 where the value says none or several.
        group: int64 [256], row of `members`, -1 where the value is no group.
        members: bool [G, C + 1], classes of each group; the last column is void.
        complete: bool [256], whether pixels of the value are whole segments: all that is seen of a class of stuff, or
            of the numbered objects of a thing. Others tell classes only.
        unlabelled: bool [256], whether something may be there that the data set does not tell.
        alone: uint8 [C], for each class a value that tells the class without its segment; 255 where none was asked for.
    """

    taxonomy: Taxonomy
    index: NDArray[np.int64]
    group: NDArray[np.int64]
    members: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    unlabelled: NDArray[np.bool_]
    alone: NDArray[np.uint8]

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> LabelCodes:
        """The ids of a taxonomy and void, without groups."""
        codes, _ = assign_codes(taxonomy, ())
        return codes


@dataclass(frozen=True)
class SourceClasses:
    """The classes of one data set.

    Attributes:
        groups: for those that correspond to another name, or to several.
        classes_only: the data set does not tell objects apart, or labels some classes only.
    """

    taxonomy: Taxonomy
    groups: Groups
    classes_only: bool


def plain_name(name: str) -> str:
    """The name by which classes of different data sets are compared."""
    return "".join(c for c in name.lower() if c.isalnum())


def members_of(source: SourceClasses, taxonomy: Taxonomy) -> dict[int, tuple[int, ...]]:
    """Class id of the data set -> indices of the model's classes, C for void; none where the model lacks one."""
    known = {plain_name(c.name): i for i, c in enumerate(taxonomy.classes)} | {VOID: len(taxonomy)}
    groups = {plain_name(name): names for name, names in source.groups.items()}
    found = {}
    for c in source.taxonomy.classes:
        name = plain_name(c.name)
        names = [plain_name(n) for n in groups.get(name, [name])]
        # One that the model does not know could be there: then the others must not be taught.
        found[c.id] = tuple(sorted(known[n] for n in names)) if all(n in known for n in names) else ()
    return found


def assign_codes(
    taxonomy: Taxonomy, sources: Sequence[SourceClasses], alone: bool = False
) -> tuple[LabelCodes, list[NDArray[np.uint8] | None]]:
    """Values for all groups of several data sets, and for each data set the table [256] from its ids to values.

    The table is None where the data set has the very classes of the model.

    Args:
        alone: give every class a value for pixels of which the class is known only.

    Raises InputError when a data set has no class in common with the model, or more groups than free values.
    """
    count = len(taxonomy)
    index, group = np.full(256, -1, np.int64), np.full(256, -1, np.int64)
    complete, unlabelled = np.zeros(256, bool), np.zeros(256, bool)
    index[taxonomy.ids] = np.arange(count)
    complete[taxonomy.ids] = True
    free = sorted(set(range(VOID_ID)) - set(taxonomy.ids.tolist()))
    values: dict[tuple[int, ...], int] = {}

    def value(members: tuple[int, ...]) -> int:
        if members not in values:
            if not free:
                raise InputError(f"data: more groups of classes than a label map has values beside {taxonomy.name}")
            values[members] = free.pop()
            unlabelled[values[members]] = True
            if len(members) == 1:
                index[values[members]] = members[0]
        return values[members]

    tables: list[NDArray[np.uint8] | None] = []
    for source in sources:
        if source.taxonomy == taxonomy:
            tables.append(None)
            continue
        found = members_of(source, taxonomy)
        if not any(found.values()):
            raise InputError(f"data: {source.taxonomy.name} has no class that corresponds to one of {taxonomy.name}")
        table = np.full(256, value(()) if source.classes_only else VOID_ID, np.uint8)
        for class_id, members in found.items():
            whole = len(members) == 1 and not _classes_only(source, class_id) and members[0] < count
            table[class_id] = taxonomy.ids[members[0]] if whole else value(members)
        tables.append(table)
    lone = np.array([value((c,)) if alone else VOID_ID for c in range(count)], np.uint8)
    several = [members for members in values if len(members) > 1]
    rows = np.zeros((len(several), count + 1), bool)
    for row, members in enumerate(several):
        rows[row, list(members)] = True
        group[values[members]] = row
    return LabelCodes(taxonomy, index, group, rows, complete, unlabelled, lone), tables


def _classes_only(source: SourceClasses, class_id: int) -> bool:
    return source.classes_only and not source.taxonomy.by_id[class_id].isthing


def to_source(source: SourceClasses, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """uint8 [256]: the class of the data set that stands for each class id of the model; void where none does.

    Where several do, the first one: with it, the model is measured by the classes of the data set.
    """
    table = np.full(256, VOID_ID, np.uint8)
    for class_id, members in members_of(source, taxonomy).items():
        for member in members:
            if member < len(taxonomy) and table[taxonomy.ids[member]] == VOID_ID:
                table[taxonomy.ids[member]] = class_id
    return table
