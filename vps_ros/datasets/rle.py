"""COCO's run lengths: a mask as lengths of alternating runs down its columns, the first of them background.

As JSON, `size` is [height, width] and `counts` either the list of lengths or a string: each length after the third less
the one two before it, in groups of 5 bits from the lowest, the sixth bit telling that more follow, plus 48 as ASCII.
Source: Lin et al., Microsoft COCO, ECCV 2014, and the format's published API.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError

_BITS, _MORE, _FIRST = 5, 32, 48
_LONGEST = 7
"""Groups of a length: 35 bits hold every length of an image."""


@dataclass(frozen=True)
class RunLengths:
    """One mask.

    Attributes:
        height, width: of the image.
        counts: int64 [K], lengths that add up to height * width.
    """

    height: int
    width: int
    counts: NDArray[np.int64]

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.counts[1::2].sum())

    def mask(self) -> NDArray[np.bool_]:
        """bool [H, W]."""
        values = np.zeros(len(self.counts), bool)
        values[1::2] = True
        return np.repeat(values, self.counts).reshape(self.width, self.height).T

    def to_json(self) -> dict:
        """{size, counts} with the compressed string, as benchmarks take results."""
        return {"size": [self.height, self.width], "counts": _compress(self.counts)}


def from_mask(mask: NDArray[np.bool_]) -> RunLengths:
    """The run lengths of a mask, bool [H, W]."""
    height, width = mask.shape
    column = np.asarray(mask, bool).T.reshape(-1)
    change = np.flatnonzero(column[1:] != column[:-1]) + 1
    edges = np.concatenate(([0], change, [column.size])).astype(np.int64)
    counts = np.diff(edges)
    # A mask that begins with foreground begins with a background of no length.
    return RunLengths(height, width, np.concatenate(([0], counts)) if column.size and column[0] else counts)


def from_json(value: object, where: str) -> RunLengths:
    """The run lengths of a JSON value {size, counts}, compressed or not.

    Raises:
        InputError: it is not that, its lengths are broken, or they do not fill the size.
    """
    if not isinstance(value, dict) or "size" not in value or "counts" not in value:
        raise InputError(f"{where}: is no run-length mask; write {{size: [height, width], counts}}")
    size, counts = value["size"], value["counts"]
    if not (isinstance(size, list) and len(size) == 2 and all(type(s) is int and s > 0 for s in size)):
        raise InputError(f"{where}: size {size!r:.40} is not [height, width]")
    if isinstance(counts, str):
        lengths = _decompress(counts, where)
    elif isinstance(counts, list) and all(type(c) is int for c in counts):
        lengths = np.array(counts, np.int64)
    else:
        raise InputError(f"{where}: counts are neither a string nor a list of whole numbers")
    height, width = size
    if (lengths < 0).any() or lengths.sum() != height * width:
        total = "a negative length" if (lengths < 0).any() else f"lengths of {lengths.sum()} pixels"
        raise InputError(f"{where}: has {total}, but its size is {height} * {width}; is it cut off?")
    return RunLengths(height, width, lengths)


def _decompress(text: str, where: str) -> NDArray[np.int64]:
    try:
        groups = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError:
        groups = np.array([-1])
    if not groups.size:
        return np.zeros(0, np.int64)
    if groups.min() < 0 or groups.max() >= 2 * _MORE or groups[-1] & _MORE:
        raise InputError(f"{where}: counts are no run-length string, or one that is cut off")
    ends = np.flatnonzero(groups & _MORE == 0)
    begins = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(groups)) - np.repeat(begins, ends - begins + 1)
    if place.max() >= _LONGEST:
        raise InputError(f"{where}: counts hold a length beyond every image")
    values = np.add.reduceat((groups & (_MORE - 1)) << _BITS * place, begins)
    # The highest bit of the last group is the sign.
    values -= np.where(groups[ends] & _MORE >> 1, 1, 0) << _BITS * (ends - begins + 1)
    for offset in (1, 2):
        values[offset::2] = np.cumsum(values[offset::2])
    return values


def _compress(counts: NDArray[np.int64]) -> str:
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    high = np.where(values < 0, ~values, values)
    length = np.ones(len(values), np.int64)
    for n in range(1, _LONGEST):
        length += high >> _BITS * n - 1 > 0
    begins = np.cumsum(length) - length
    place = np.arange(int(length.sum())) - np.repeat(begins, length)
    groups = np.repeat(values, length) >> _BITS * place & (_MORE - 1)
    groups |= np.where(place < np.repeat(length, length) - 1, _MORE, 0)
    return (groups + _FIRST).astype(np.uint8).tobytes().decode("ascii")
