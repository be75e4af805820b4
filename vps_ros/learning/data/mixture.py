"""Batches from several data sets: shares of the pairs, and the part of the run in which each is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.learning.data.augmentation import OWN_SCALE, ColourStatistics, Scale, colour_statistics
from vps_ros.learning.data.clips import Clip, Picture


@dataclass(frozen=True)
class CodedClip:
    """A clip whose class ids are mapped to the label codes of a run by a table [256]."""

    clip: Clip
    table: NDArray[np.uint8]

    @property
    def name(self) -> str:
        return self.clip.name

    def __len__(self) -> int:
        return len(self.clip)

    def read(self, index: int) -> Picture:
        picture = self.clip.read(index)
        return picture._replace(semantic=self.table[picture.semantic])


@dataclass(frozen=True)
class Portion:
    """The clips of one data set in a mixture; `weight`, `since`, `until` and `style` as in entries.Entry.

    Attributes:
        crops: every view is a crop of the image at its own aspect ratio; images are never stretched.
        style_of: name of the portion whose colours are given to stylised pairs.
    """

    clips: Sequence[Clip]
    scale: Scale = OWN_SCALE
    gap: int = 3
    name: str = ""
    weight: float = 1.0
    since: float = 0.0
    until: float = 1.0
    crops: bool = False
    style: float = 0.0
    style_of: str = ""


@dataclass(frozen=True)
class Mixture:
    """The data sets that batches are drawn from."""

    portions: tuple[Portion, ...]

    def draw(self, pairs: int, share: float, rng: np.random.Generator) -> list[tuple[Portion, Clip]]:
        """The portion and the clip of each pair of a batch, at progress `share` of the run."""
        active = [p for p in self.portions if p.weight > 0 and p.since <= share < p.until]
        # In a run of `minutes`, the progress of the last step may be 1.
        active = active or [p for p in self.portions if p.weight > 0 and p.until == 1.0]
        if len(active) == 1:
            return [(active[0], active[0].clips[c]) for c in rng.integers(len(active[0].clips), size=pairs)]
        weights = np.array([p.weight for p in active])
        chosen = [active[i] for i in rng.choice(len(active), size=pairs, p=weights / weights.sum())]
        return [(p, p.clips[int(rng.integers(len(p.clips)))]) for p in chosen]

    def donor(self, names: Sequence[str], share: float, rng: np.random.Generator) -> Portion | None:
        """A random one of the portions with these names that have begun; None if there is none."""
        known = [p for p in self.portions if p.name in names and p.since <= share]
        return known[int(rng.integers(len(known)))] if known else None

    def colours(self, name: str, rng: np.random.Generator) -> ColourStatistics | None:
        """Colour statistics of a random frame of the portion with this name; None if there is none."""
        for portion in self.portions:
            if name and portion.name == name:
                clip = portion.clips[int(rng.integers(len(portion.clips)))]
                return colour_statistics(clip.read(int(rng.integers(len(clip)))).image)
        return None
