"""Colours of identities, and label maps as colours."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vps_ros.taxonomy import VOID_ID, Taxonomy

GOLDEN = 0.6180339887498949
"""Hues at multiples of this share of the colour circle are spread evenly for any number of ids."""
_SHADES = ((0.75, 1.0), (0.55, 0.95), (0.95, 0.85))

Color = tuple[int, int, int]
"""RGB, 0..255."""


@lru_cache(maxsize=4096)
def identity_color(identity: int) -> Color:
    """RGB of an object: the same for the same id, with a hue far from those of the ids before and after it."""
    saturation, value = _SHADES[identity % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(identity * GOLDEN % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(color: Color) -> Color:
    """Black or white, whichever has more contrast with `color`."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def pack(color: Color) -> int:
    """The colour as the uint32 whose bytes in memory are R, G, B, 255."""
    return int(np.array([*color, 255], np.uint8).view(np.uint32)[0])


def look_up(table: NDArray[np.uint32], ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """uint8 [H, W, 4] RGBA of `table` at `ids` [H, W]; 32 bits per pixel are five times faster than 4 bytes."""
    return np.take(table, ids, mode="clip").view(np.uint8).reshape(*ids.shape, 4)


def paint_map(taxonomy: Taxonomy, semantic: NDArray[np.integer], instance: NDArray[np.integer]) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] of class ids and instances [H, W]: things in the colour of their instance, void black."""
    table = np.full(max(VOID_ID, *taxonomy.by_id) + 1, pack((0, 0, 0)), np.uint32)
    is_thing = np.zeros(len(table), bool)
    for info in taxonomy.classes:
        table[info.id] = pack(info.color)
        is_thing[info.id] = info.isthing
    picture = look_up(table, semantic)[..., :3].copy()
    of_thing = np.take(is_thing, semantic, mode="clip") & (np.asarray(instance) > 0)
    ids, index = np.unique(np.asarray(instance)[of_thing], return_inverse=True)
    colors = np.array([identity_color(int(i)) for i in ids], np.uint8).reshape(-1, 3)
    picture[of_thing] = colors[index]
    return picture
