"""Classes of a data set mapped to those of a model: to one class, to several candidates, or to none.

A data set with one class "sign" for traffic lights and traffic signs gives partial labels: such a pixel is one of two
classes. `LabelCodes` has a value in label maps for every such group of candidates, beside the ids of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, Taxonomy

VOID = "void"
"""A candidate in a group: the pixel may be of none of the model's classes."""

Groups = Mapping[str, Sequence[str]]
"""Class of a data set -> names of the model's classes that it may be. Other classes are compared by name."""


@dataclass(frozen=True)
class LabelCodes:
    """The meaning of each value 0..255 of a label map.

    Attributes:
        taxonomy: of the model, C classes.
        index: int64 [256], class; -1 for values of no class or of several candidates.
        group: int64 [256], row of `members`; -1 for values that are no group.
        members: bool [G, C + 1], candidates of each group; the last column is void.
        complete: bool [256], whether the pixels of the value are complete segments: all visible pixels of a class of
            stuff, or of the instances of a thing. Other values give the class only.
        unlabelled: bool [256], whether these pixels may show objects that the data set does not label.
        alone: uint8 [C], for each class a value that gives the class without a segment; 255 if not requested.
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
        groups: candidates of the classes that have another name in the model, or several.
        classes_only: the data set does not separate objects, or labels some classes only.
        partial: void pixels may show objects that are not labelled, as with the labels of a teacher.
    """

    taxonomy: Taxonomy
    groups: Groups
    classes_only: bool
    partial: bool = False


def normalized_name(name: str) -> str:
    """Lower case letters and digits of a class name, by which data sets are compared."""
    return "".join(c for c in name.lower() if c.isalnum())


def candidates(source: SourceClasses, taxonomy: Taxonomy) -> dict[int, tuple[int, ...]]:
    """Class id of the data set -> indices of the model's classes, C for void; empty if the model lacks one of them."""
    known = {normalized_name(c.name): i for i, c in enumerate(taxonomy.classes)} | {VOID: len(taxonomy)}
    groups = {normalized_name(name): names for name, names in source.groups.items()}
    found = {}
    for c in source.taxonomy.classes:
        name = normalized_name(c.name)
        names = [normalized_name(n) for n in groups.get(name, [name])]
        # If the model lacks one candidate, a pixel may be of that class; the others must not be trained on it.
        found[c.id] = tuple(sorted(known[n] for n in names)) if all(n in known for n in names) else ()
    return found


def assign_codes(
    taxonomy: Taxonomy, sources: Sequence[SourceClasses], alone: bool = False
) -> tuple[LabelCodes, list[NDArray[np.uint8] | None]]:
    """Values for the groups of several data sets, and for each data set a table [256] from its ids to values.

    The table is None for a data set with the taxonomy of the model that is not partial.

    Args:
        alone: give every class also a value for pixels without a segment.

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
            table = np.arange(256, dtype=np.uint8)
            table[VOID_ID] = value(()) if source.partial else VOID_ID
            tables.append(table if source.partial else None)
            continue
        found = candidates(source, taxonomy)
        if not any(found.values()):
            raise InputError(f"data: {source.taxonomy.name} has no class that corresponds to one of {taxonomy.name}")
        table = np.full(256, value(()) if source.classes_only or source.partial else VOID_ID, np.uint8)
        for class_id, members in found.items():
            instances = source.taxonomy.by_id[class_id].isthing or not source.classes_only
            exact = len(members) == 1 and instances and members[0] < count
            table[class_id] = taxonomy.ids[members[0]] if exact else value(members)
        tables.append(table)
    class_values = np.array([value((c,)) if alone else VOID_ID for c in range(count)], np.uint8)
    several = [members for members in values if len(members) > 1]
    rows = np.zeros((len(several), count + 1), bool)
    for row, members in enumerate(several):
        rows[row, list(members)] = True
        group[values[members]] = row
    return LabelCodes(taxonomy, index, group, rows, complete, unlabelled, class_values), tables


def source_table(source: SourceClasses, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """uint8 [256], the data set's class for each class id of the model, void for none: to evaluate on the data set.

    If there are several, the first one.
    """
    table = np.full(256, VOID_ID, np.uint8)
    for class_id, members in candidates(source, taxonomy).items():
        for member in members:
            if member < len(taxonomy) and table[taxonomy.ids[member]] == VOID_ID:
                table[taxonomy.ids[member]] = class_id
    return table
