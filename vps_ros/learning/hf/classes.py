"""The taxonomy of a checkpoint: its classes, and which of them are things.

Configurations of transformers name the classes (`id2label`) but rarely say which are things: OneFormer's processor does
(`metadata`), some files list the stuff classes (`label_ids_to_fuse`). Otherwise a known data set is identified: its
classes have the order of the data set, or, as in DETR, the ids of the data set as columns.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from vps_ros.errors import InputError
from vps_ros.learning.hf.checkpoint import Checkpoint
from vps_ros.learning.onnx_import.class_names import is_thing
from vps_ros.taxonomies import ALL, load_taxonomy
from vps_ros.taxonomy import ClassInfo, Taxonomy

_ALIKE = 0.75
"""Fraction of names that must match a data set; less than 1, because ADE20K has several names per class."""
_SPARE = 1.5
"""Largest ratio of columns to the highest class id: DETR has 250 columns for COCO's ids up to 200."""
_GOLDEN = 0.618034


class Classes(NamedTuple):
    """A taxonomy, and the column of the class logits for each of its classes.

    Columns without a class are unused; `labels` is the number of all columns, void excluded.
    """

    taxonomy: Taxonomy
    columns: tuple[int, ...]
    labels: int


def classes_of(checkpoint: Checkpoint, choice: str | None = None, task: str = "panoptic") -> Classes:
    """The classes of a checkpoint.

    Args:
        choice: name of a taxonomy, or a JSON file with a list of {id, name, isthing, color}, used instead of the
            names in the checkpoint.
        task: one of families.TASKS. For instance segmentation, every class is a thing. For semantic segmentation of
            an unknown data set, a class is a thing if a known data set has a thing of this name.

    Raises InputError when it is unknown which classes are things, or `choice` does not fit.
    """
    names = _names(checkpoint)
    if choice is not None:
        return _chosen(checkpoint, names, choice)
    known = _by_place(names) or _by_name(names)
    things = _things(checkpoint, len(names))
    if task == "instance":
        return _own(checkpoint, names, set(range(len(names))), known)
    if task == "semantic":
        named = {i for i, name in enumerate(names) if is_thing(name)}
        return known or _own(checkpoint, names, named, None)
    if things is not None:
        if not things:
            raise InputError(
                f"{checkpoint}: none of its classes is a thing; add --task semantic if it was trained for semantic "
                "segmentation, or say with --taxonomy what are things"
            )
        return _own(checkpoint, names, things, known)
    if known is None:
        fitting = ", ".join(n for n, t in ALL.items() if _columns(t, len(names))) or "no data set known here"
        raise InputError(
            f"{checkpoint}: nothing says which of its {len(names)} classes ({', '.join(names[:3])}, ...) are things; "
            f"name them with --taxonomy NAME (as many has {fitting}) or --taxonomy CLASSES.json"
        )
    return known


def _names(checkpoint: Checkpoint) -> list[str]:
    labels = checkpoint.config.get("id2label")
    if labels is None:
        count = checkpoint.config.get("num_labels")
        if not isinstance(count, int) or count < 1:
            raise InputError(f"{checkpoint}: its config.json has neither id2label nor num_labels")
        return [f"LABEL_{i}" for i in range(count)]
    try:
        by_number = {int(k): str(v) for k, v in labels.items()}
    except (AttributeError, ValueError):
        by_number = {}
    if sorted(by_number) != list(range(len(by_number))) or not by_number:
        raise InputError(f"{checkpoint}: id2label of its config.json does not number the classes from 0 on")
    return [by_number[i] for i in range(len(by_number))]


def _nameless(name: str) -> bool:
    return re.fullmatch(r"(label_?\d+|n/?a|none|)", name.strip().lower()) is not None


def _plain(name: str) -> str:
    """A name in normal form: the first of several synonyms, lower case, words separated by spaces."""
    return re.sub(r"[\W_]+", " ", name.split(",")[0].lower()).strip()


def _columns(taxonomy: Taxonomy, labels: int) -> tuple[int, ...]:
    """Columns of the classes of a data set among `labels` columns: in order, or by class id; () if neither fits."""
    if len(taxonomy) == labels:
        return tuple(range(labels))
    highest = int(taxonomy.ids.max())
    return tuple(taxonomy.ids.tolist()) if len(taxonomy) < highest < labels <= _SPARE * highest else ()


def _by_place(names: Sequence[str]) -> Classes | None:
    """The data set with the most names in the columns of the checkpoint; the one with more things if several."""
    best, found = (0, 0), None
    for taxonomy in ALL.values():
        pairs = list(zip(_columns(taxonomy, len(names)), taxonomy.classes, strict=False))
        named = [(names[i], c.name) for i, c in pairs if not _nameless(names[i])]
        hits = sum(_plain(a) == _plain(b) for a, b in named)
        rank = (hits, len(taxonomy.thing_ids))
        if 2 * len(named) >= len(taxonomy) and hits >= _ALIKE * len(named) and rank > best:
            best, found = rank, Classes(taxonomy, _columns(taxonomy, len(names)), len(names))
    return found


def _by_name(names: Sequence[str]) -> Classes | None:
    """The smallest data set with all of these names in any order; the one with more things if several."""
    for taxonomy in sorted(ALL.values(), key=lambda t: (len(t), -len(t.thing_ids))):
        by_name = {_plain(c.name): c for c in taxonomy.classes}
        mine = [by_name[plain] for name in names if (plain := _plain(name)) in by_name]
        if len(mine) == len(names) == len(set(mine)):
            return Classes(Taxonomy(taxonomy.name, tuple(mine)), tuple(range(len(names))), len(names))
    return None


def _things(checkpoint: Checkpoint, labels: int) -> set[int] | None:
    """Columns of things according to the files of the checkpoint; None if they do not say."""
    metadata = checkpoint.processor.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("thing_ids"), list):
        return _numbers(checkpoint, metadata["thing_ids"], labels, "thing_ids")
    for where in (checkpoint.processor, checkpoint.config):
        for key in ("label_ids_to_fuse", "stuff_classes"):
            if isinstance(where.get(key), list):
                return set(range(labels)) - _numbers(checkpoint, where[key], labels, key)
    return None


def _numbers(checkpoint: Checkpoint, values: Sequence[Any], labels: int, key: str) -> set[int]:
    try:
        found = {int(v) for v in values}
    except (TypeError, ValueError):
        found = {-1}
    if found and not 0 <= min(found) <= max(found) < labels:
        raise InputError(f"{checkpoint}: {key} of its processor names classes other than 0..{labels - 1}")
    return found


def _own(checkpoint: Checkpoint, names: Sequence[str], things: set[int], known: Classes | None) -> Classes:
    """The names and things of the checkpoint, with colours and ids of a known data set."""
    if known is not None and [c.isthing for c in known.taxonomy.classes] == [i in things for i in known.columns]:
        return known
    used = [i for i, name in enumerate(names) if not _nameless(name)] or list(range(len(names)))
    colours = dict(zip(known.columns, known.taxonomy.classes, strict=True)) if known else {}
    classes = tuple(ClassInfo(i, names[i], i in things, colours[i].color if i in colours else _colour(i)) for i in used)
    return Classes(Taxonomy(checkpoint.short, classes), tuple(used), len(names))


def _chosen(checkpoint: Checkpoint, names: Sequence[str], choice: str) -> Classes:
    taxonomy = load_taxonomy(choice)
    columns = _columns(taxonomy, len(names))
    if not columns:
        raise InputError(
            f"--taxonomy {choice}: has {len(taxonomy)} classes, and {checkpoint} has {len(names)} "
            f"({', '.join(names[:3])}, ...)"
        )
    return Classes(taxonomy, columns, len(names))


def _colour(i: int) -> tuple[int, int, int]:
    """A colour for class `i` that differs from those of adjacent classes."""
    red, green, blue = colorsys.hsv_to_rgb(i * _GOLDEN % 1, 0.5 + 0.5 * (i % 3) / 2, 0.9 - 0.25 * (i % 2))
    return round(255 * red), round(255 * green), round(255 * blue)
