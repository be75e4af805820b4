"""Classes: their ids, names, colours, and whether they are things or stuff."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError

VOID_ID = 255
"""Class value of unlabelled pixels in KITTI-STEP and Cityscapes maps."""
MAX_CLASS_ID = 998
"""The largest id whose segment_id (1 + class) is below that of the first thing slot."""


@dataclass(frozen=True)
class ClassInfo:
    """One class; `color` is RGB in 0..255."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Taxonomy:
    """The classes of a model or a data set, in the order of a model's class logits."""

    name: str
    classes: tuple[ClassInfo, ...]

    def __post_init__(self) -> None:
        ids = [c.id for c in self.classes]
        if len(set(ids)) != len(ids):
            raise InputError(f"taxonomy {self.name!r}: class ids repeat; give each class an id of its own")
        if ids and not 0 <= min(ids) <= max(ids) <= MAX_CLASS_ID:
            raise InputError(f"taxonomy {self.name!r}: class ids must be in 0..{MAX_CLASS_ID}")

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def ids(self) -> NDArray[np.int32]:
        """int32 [C], class id of each column."""
        return np.array([c.id for c in self.classes], np.int32)

    @cached_property
    def isthing(self) -> NDArray[np.bool_]:
        """bool [C]."""
        return np.array([c.isthing for c in self.classes], bool)

    @cached_property
    def thing_ids(self) -> tuple[int, ...]:
        return tuple(c.id for c in self.classes if c.isthing)

    @cached_property
    def thing_table(self) -> NDArray[np.bool_]:
        """bool [256]: whether the class of each value of a uint8 map is a thing; False for void and unknown values."""
        return np.isin(np.arange(VOID_ID + 1), self.thing_ids) & (np.arange(VOID_ID + 1) != VOID_ID)

    @cached_property
    def by_id(self) -> dict[int, ClassInfo]:
        return {c.id: c for c in self.classes}

    def class_name(self, class_id: int) -> str:
        """Name of a class; its number as text where the taxonomy does not have it."""
        info = self.by_id.get(class_id)
        return info.name if info else str(class_id)

    def to_json(self) -> list[dict]:
        """The list of {id, name, isthing, color} of the ONNX contract."""
        return [{"id": c.id, "name": c.name, "isthing": c.isthing, "color": list(c.color)} for c in self.classes]

    @classmethod
    def from_names(
        cls, names: Sequence[str] | Mapping[int, str], stuff: Collection[str] = (), name: str = "custom"
    ) -> Taxonomy:
        """Classes by their names: ids 0, 1, ... in the order of a list, or those of a mapping; colours are chosen.

        Args:
            stuff: names of the classes that have no objects, such as road and sky; all others are things.
            name: of the taxonomy.

        Raises InputError when an id is not possible or a name of `stuff` is not in `names`.
        """
        items = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        if missing := set(stuff) - set(items.values()):
            raise InputError(f"taxonomy {name!r}: stuff {min(missing)!r} is not one of the names")
        # Steps of the golden ratio give neighbouring ids distant hues.
        colors = [colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.65, 0.9) for i in range(len(items))]
        rows = zip(items.items(), colors, strict=True)
        return cls(
            name,
            tuple(ClassInfo(int(i), str(n), n not in stuff, _rgb([round(255 * v) for v in c])) for (i, n), c in rows),
        )

    @classmethod
    def from_json(cls, name: str, entries: Sequence[dict]) -> Taxonomy:
        """Raises InputError when an entry lacks a field or has one of the wrong type."""
        try:
            classes = tuple(
                ClassInfo(int(e["id"]), str(e["name"]), bool(e["isthing"]), _rgb(e["color"])) for e in entries
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"taxonomy {name!r}: {error!r}; each class needs id, name, isthing and color [r, g, b]"
            ) from None
        return cls(name, classes)


def _rgb(color: Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = color
    return int(red), int(green), int(blue)


def parse_classes(text: str, first_id: int = 0) -> tuple[ClassInfo, ...]:
    """Classes of a table `[id ]name[*] #rrggbb, ...` with a `*` after the name of each thing.

    A class without an id has that of its place, counted from `first_id`.
    """
    classes = []
    for place, entry in enumerate(text.split(","), first_id):
        found = re.fullmatch(r"(?:(\d+) )?(.+?)(\*?) #(\w\w)(\w\w)(\w\w)", " ".join(entry.split()))
        if not found:
            raise ValueError(f"class {entry.strip()!r} is not written as `[id ]name[*] #rrggbb`")
        number, name, thing, *color = found.groups()
        classes.append(ClassInfo(int(number or place), name, bool(thing), _rgb([int(c, 16) for c in color])))
    return tuple(classes)


CITYSCAPES = Taxonomy(
    "cityscapes",
    parse_classes("""
    road #804080, sidewalk #f423e8, building #464646, wall #66669c, fence #be9999, pole #999999, traffic-light #faaa1e,
    traffic-sign #dcdc00, vegetation #6b8e23, terrain #98fb98, sky #4682b4, person* #dc143c, rider* #ff0000,
    car* #00008e, truck* #000046, bus* #003c64, train* #005064, motorcycle* #0000e6, bicycle* #770b20
    """),
)
"""19 classes; things are 11..18 (Cityscapes-VPS, the generated streets)."""
KITTI_STEP = Taxonomy("kitti-step", tuple(replace(c, isthing=c.id in (11, 13)) for c in CITYSCAPES.classes))
"""The same 19 classes; only person and car are things (STEP benchmark)."""
MOTCHALLENGE_STEP = Taxonomy(
    "motchallenge-step",
    parse_classes("""
    sidewalk #f423e8, building #464646, vegetation #6b8e23, sky #4682b4, person* #dc143c, rider #ff0000, bicycle #770b20
    """),
)
"""Seven of them, with ids of their own; only person is a thing (STEP benchmark)."""
TAXONOMIES = {t.name: t for t in (KITTI_STEP, CITYSCAPES, MOTCHALLENGE_STEP)}
"""The choices of `--taxonomy` of `vps-ros track` and `vps-ros evaluate`."""
