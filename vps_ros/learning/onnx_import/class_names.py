"""The classes of an imported network: from its metadata, a known data set, or a file."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import yaml

from vps_ros.errors import InputError
from vps_ros.taxonomies import ALL, load_taxonomy
from vps_ros.taxonomy import ClassInfo, Taxonomy

COCO = "coco"
"""`--classes` for the 80 things of COCO."""
_HELP = "give --classes, the name of a data set or a file with one name per line"


def instance_classes(choice: str | None, metadata: Mapping[str, str], where: str) -> Taxonomy:
    """The classes of a network for things, in the order of its scores.

    Args:
        choice: `coco`, a name of vps_ros.taxonomies, or a file (see `_from_file`); None: the metadata `names`.

    Raises InputError when there are none.
    """
    if choice is None:
        if not (names := metadata_names(metadata)):
            raise InputError(f"{where}: its metadata has no class names; {_HELP}")
        return _coloured(Taxonomy.from_names(names, name=Path(where).stem))
    if choice == COCO:
        coco = ALL["coco-panoptic"]
        return Taxonomy(COCO, tuple(c for c in coco.classes if c.isthing))
    taxonomy = _from_choice(choice)
    return Taxonomy(taxonomy.name, tuple(replace(c, isthing=True) for c in taxonomy.classes))


def semantic_classes(choice: str) -> Taxonomy:
    """The classes of a semantic network, in the order of its logits; raises InputError when there are none.

    In a file of names, a class is a thing if a known data set has a thing of this name, otherwise stuff.
    """
    return _from_choice(choice)


def metadata_names(metadata: Mapping[str, str]) -> list[str]:
    """The entry `names`, a list or a dictionary by number in Python's notation; empty where it is neither."""
    try:
        names = ast.literal_eval(metadata.get("names", ""))
    except (ValueError, SyntaxError):
        return []
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []


def _from_choice(choice: str) -> Taxonomy:
    path = Path(choice)
    if choice in ALL or path.suffix == ".json":
        return load_taxonomy(choice, "--classes")
    if not path.is_file():
        raise InputError(
            f"--classes {choice}: no such data set or file; there are {COCO} (things only), {', '.join(ALL)}, or give "
            "a file with one name per line"
        )
    return _from_names(_from_file(path), path.stem)


def _from_file(path: Path) -> list[str]:
    """Names of a text file, one per line, or of the entry `names` of a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            found = yaml.safe_load(text)
            found = found.get("names") if isinstance(found, dict) else found
            found = list(found.values()) if isinstance(found, dict) else found
            names = [str(name) for name in found] if isinstance(found, list) else []
        else:
            names = [line.strip() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--classes {path}: not readable ({str(error).splitlines()[0]})") from None
    if not names:
        raise InputError(f"--classes {path}: holds no names")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"--classes {path}: has {repeated[0]!r} more than once; give each class its own name")
    return names


def plain(name: str) -> str:
    """A name in normal form, in which different spellings of a class are equal."""
    words = name.split(",")[0].lower().replace("-", " ").replace("_", " ").split()
    joined = " ".join(w for w in words if w not in ("merged", "other"))
    return _SYNONYMS.get(joined, joined)


_SYNONYMS = {
    same: group[0]
    for group in (
        ("person", "pedestrian", "human", "people"),
        ("bicycle", "bike"),
        ("motorcycle", "motorbike"),
        ("sidewalk", "pavement"),
        ("vegetation", "tree"),
        ("building", "house"),
        ("traffic sign", "street sign", "stop sign", "sign"),
        ("airplane", "aeroplane"),
        ("couch", "sofa"),
        ("tv", "tvmonitor", "television"),
    )
    for same in group
}


@cache
def _known() -> dict[str, ClassInfo]:
    """Classes of the known data sets by plain name; the first data set that has one counts."""
    found: dict[str, ClassInfo] = {}
    for taxonomy in (ALL["cityscapes"], ALL["coco-panoptic"], *ALL.values()):
        for info in taxonomy.classes:
            found.setdefault(plain(info.name), info)
    return found


def is_thing(name: str) -> bool:
    """Whether a known data set has a thing of this name."""
    info = _known().get(plain(name))
    return info is not None and info.isthing


def _from_names(names: Sequence[str], name: str) -> Taxonomy:
    return _coloured(Taxonomy.from_names(names, [n for n in names if not is_thing(n)], name))


def _coloured(taxonomy: Taxonomy) -> Taxonomy:
    """With the colours of known classes."""
    same = ((c, _known().get(plain(c.name))) for c in taxonomy.classes)
    return Taxonomy(taxonomy.name, tuple(replace(c, color=like.color) if like else c for c, like in same))
