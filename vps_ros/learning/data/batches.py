"""Batches of pairs of frames, from clips of any source: the same seed gives the same batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.datasets.class_mapping import LabelCodes
from vps_ros.learning.data.augmentation import (
    OWN_SCALE,
    ColourStatistics,
    Scale,
    View,
    degrade,
    random_colours,
    random_view,
    recolour,
    see,
    stylise,
    view_labels,
)
from vps_ros.learning.data.clips import Clip, Picture
from vps_ros.learning.data.mixture import Mixture, Portion
from vps_ros.learning.data.paste import Thing, choose_things, moved, paste, placeable_things, placing_view
from vps_ros.learning.data.targets import Targets, make_targets, stack
from vps_ros.learning.network_io import STRIDE_4, LabelGrid
from vps_ros.learning.recipe import Augmentation
from vps_ros.taxonomy import Taxonomy


@dataclass(frozen=True)
class Batch:
    """uint8 images [B, H, W, 3] and their targets; images 2i and 2i + 1 are a pair of one clip.

    `choice` (int64 [B, h, w], or None) says at which quarter of each cell the targets were read.
    """

    images: Tensor
    targets: Targets
    choice: Tensor | None = None

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in parts of as many images, whole pairs each."""
        size = len(self.images) // count
        for i in range(0, len(self.images), size):
            chosen = slice(i, i + size)
            choice = None if self.choice is None else self.choice[chosen]
            yield Batch(self.images[chosen], self.targets.each(lambda t, chosen=chosen: t[chosen]), choice)

    def to(self, device: torch.device) -> Batch:
        """The batch in the memory of a device."""
        choice = None if self.choice is None else self.choice.to(device)
        return Batch(self.images.to(device), self.targets.each(lambda t: t.to(device)), choice)


@dataclass(frozen=True)
class BatchSpec:
    """What a network and its data ask of every batch.

    Attributes:
        rows: most segments of an image.
        grid: where labels are read.
        quarters: they are read at a random quarter of each cell, for a model with a detail branch.
        scale, gap: of clips that are no Mixture; gap is the largest number of frames between the two of a pair.
        codes: what the values of label maps say; None, they are class ids.
    """

    taxonomy: Taxonomy
    rows: int
    grid: LabelGrid = STRIDE_4
    quarters: bool = False
    scale: Scale = OWN_SCALE
    gap: int = 3
    codes: LabelCodes | None = None


def training_batch(
    clips: Sequence[Clip] | Mixture,
    size: tuple[int, int],
    pairs: int,
    wanted: BatchSpec,
    options: Augmentation,
    seed: tuple[int, ...],
    share: float = 0.0,
) -> Batch:
    """The batch that belongs to `seed` (of the run, step): the same each time, so that resuming changes nothing.

    Still images make pairs with themselves: two views of one image, in which every object lasts.

    Args:
        share: of the run that is over.
    """
    rng = np.random.default_rng(seed)
    mixture = clips if isinstance(clips, Mixture) else Mixture((Portion(clips, wanted.scale, wanted.gap),))
    draw = _Draw(mixture, share, size, wanted, options, rng)
    images, targets, choices = [], [], []
    for portion, clip in mixture.draw(pairs, share, rng):
        for picture, choice in draw.pair(portion, clip):
            images.append(picture.image)
            targets.append(make_targets(*picture[1:], wanted.taxonomy, wanted.rows, wanted.codes))
            choices.append(choice)
    choice = torch.from_numpy(np.stack(choices)) if wanted.quarters else None
    return Batch(torch.from_numpy(np.stack(images)), stack(targets), choice)


class _Donors(NamedTuple):
    """Another pair, the view of each of its frames, and which of its things are pasted."""

    frames: tuple[Picture, Picture]
    views: tuple[View, View]
    things: list[Thing]


@dataclass(frozen=True)
class _Draw:
    """What decides a batch; see training_batch."""

    mixture: Mixture
    share: float
    size: tuple[int, int]
    wanted: BatchSpec
    options: Augmentation
    rng: np.random.Generator

    def pair(self, portion: Portion, clip: Clip) -> Iterator[tuple[Picture, NDArray[np.int64] | None]]:
        """Both frames of a pair as the network sees them, each with the quarter at which its labels were read."""
        rng, options, grid = self.rng, self.options, self.wanted.grid
        frames = _read_pair(clip, portion.gap, rng)
        view, colours = self._look(portion, frames[0]), random_colours(options.colour, rng)
        apart = rng.random() < options.apart or frames[0] is frames[1]
        pasted = options.paste and rng.random() < options.paste
        donors = list(self._donors(portion, apart)) if pasted else []
        style = self._style(portion)
        for i, frame in enumerate(frames):
            if i and apart:
                view, colours = self._look(portion, frame), random_colours(options.colour, rng)
                style = style and self._style(replace(portion, style=1.0))
            choice = rng.integers(4, size=grid.of(self.size)[::-1]) if self.wanted.quarters else None
            picture = see(frame, view, choice, grid)
            for d in donors:
                picture = paste(picture, d.frames[i], d.views[i], d.things, choice, grid)
            image = recolour(picture.image, colours)
            if style:
                seed, statistics = style
                image = stylise(image, np.random.default_rng(seed), statistics)
            yield picture._replace(image=degrade(image, options, rng)), choice

    def _look(self, portion: Portion, frame: Picture) -> View:
        options = replace(self.options, zoom=1.0) if portion.crops else self.options
        return random_view(frame.size, self.size, options, self.rng, portion.scale)

    def _style(self, portion: Portion) -> tuple[int, ColourStatistics | None] | None:
        """Seed and colours of a style, or None."""
        if not portion.style or self.rng.random() >= portion.style:
            return None
        return int(self.rng.integers(2**32)), self.mixture.colours(portion.style_of, self.rng)

    def _donors(self, portion: Portion, apart: bool) -> Iterator[_Donors]:
        rng, options = self.rng, self.options
        if not options.donors:
            yield self._own_donors(portion, apart)
            return
        for _ in range(int(rng.integers(1, options.pasted + 1))):
            source = self.mixture.donor(options.donors, self.share, rng)
            if source is None:
                return
            frames = _read_pair(source.clips[int(rng.integers(len(source.clips)))], source.gap, rng)
            things = placeable_things(frames[0], self.wanted.taxonomy)
            if things:
                thing = things[int(rng.integers(len(things)))]
                view = placing_view(frames[0], thing, self.size, rng)
                yield _Donors(frames, (view, moved(view, rng)), [thing])

    def _own_donors(self, portion: Portion, apart: bool) -> _Donors:
        rng, wanted = self.rng, self.wanted
        frames = _read_pair(portion.clips[int(rng.integers(len(portion.clips)))], portion.gap, rng)
        view = self._look(portion, frames[0])
        views = view, self._look(portion, frames[1]) if apart else view
        labels = [view_labels(*f[1:], v, None, wanted.grid) for f, v in zip(frames, views, strict=True)]
        return _Donors(frames, views, choose_things(labels, wanted.taxonomy, self.options.pasted, rng))


def _read_pair(clip: Clip, gap: int, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Two frames up to `gap` apart; the same one twice where the clip has no other."""
    first = int(rng.integers(len(clip)))
    step = int(rng.integers(1, gap + 1)) * (1 if rng.random() < 0.5 else -1)
    second = first + step if 0 <= first + step < len(clip) else first - step
    second = min(max(second, 0), len(clip) - 1)
    frame = clip.read(first)
    return frame, frame if second == first else clip.read(second)
