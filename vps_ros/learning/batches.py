"""Batches of pairs of frames, from clips of any source: the same seed gives the same batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.learning.augment import (
    OWN_SCALE,
    Scale,
    View,
    degrade,
    random_colours,
    random_view,
    recolour,
    see,
    view_labels,
)
from vps_ros.learning.clips import Clip, Picture
from vps_ros.learning.paste import Thing, choose_things, paste
from vps_ros.learning.recipe import Augmentation
from vps_ros.learning.sides import CELLS, Grid
from vps_ros.learning.targets import Targets, make_targets, stack
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
            yield Batch(self.images[chosen], Targets(*(t[chosen] for t in self.targets)), choice)

    def to(self, device: torch.device) -> Batch:
        """The batch in the memory of a device."""
        choice = None if self.choice is None else self.choice.to(device)
        return Batch(self.images.to(device), Targets(*(t.to(device) for t in self.targets)), choice)


@dataclass(frozen=True)
class Wanted:
    """What a network and its data ask of every batch.

    Attributes:
        rows: most segments of an image.
        grid: where labels are read.
        quarters: they are read at a random quarter of each cell, for a model with a detail branch.
        scale: of the data.
        gap: largest number of frames between the two of a pair.
    """

    taxonomy: Taxonomy
    rows: int
    grid: Grid = CELLS
    quarters: bool = False
    scale: Scale = OWN_SCALE
    gap: int = 3


def training_batch(
    clips: Sequence[Clip],
    size: tuple[int, int],
    pairs: int,
    wanted: Wanted,
    options: Augmentation,
    seed: tuple[int, ...],
) -> Batch:
    """The batch that belongs to `seed` (of the run, step): the same each time, so that resuming changes nothing.

    Still images make pairs with themselves: two views of one image, in which every object lasts.
    """
    rng = np.random.default_rng(seed)
    images, targets, choices = [], [], []
    for c in rng.integers(len(clips), size=pairs):
        for picture, choice in _seen_pair(clips, clips[c], size, wanted, options, rng):
            images.append(picture.image)
            targets.append(make_targets(picture.semantic, picture.instance, wanted.taxonomy, wanted.rows))
            choices.append(choice)
    choice = torch.from_numpy(np.stack(choices)) if wanted.quarters else None
    return Batch(torch.from_numpy(np.stack(images)), stack(targets), choice)


def _seen_pair(
    clips: Sequence[Clip],
    clip: Clip,
    size: tuple[int, int],
    wanted: Wanted,
    options: Augmentation,
    rng: np.random.Generator,
) -> Iterator[tuple[Picture, NDArray[np.int64] | None]]:
    """Both frames of a pair as the network sees them, each with the quarter at which its labels were read."""
    frames = _read_pair(clip, wanted.gap, rng)
    view, colours = _look(frames[0], size, wanted, options, rng), random_colours(options.colour, rng)
    apart = rng.random() < options.apart or frames[0] is frames[1]
    donors = None
    if options.paste and rng.random() < options.paste:
        donors = _draw_donors(clips, size, wanted, options, apart, rng)
    for i, frame in enumerate(frames):
        if i and apart:
            view, colours = _look(frame, size, wanted, options, rng), random_colours(options.colour, rng)
        choice = rng.integers(4, size=wanted.grid.of(size)[::-1]) if wanted.quarters else None
        picture = see(frame, view, choice, wanted.grid)
        if donors:
            picture = paste(picture, donors.frames[i], donors.views[i], donors.things, choice, wanted.grid)
        yield picture._replace(image=degrade(recolour(picture.image, colours), options, rng)), choice


def _read_pair(clip: Clip, gap: int, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Two frames up to `gap` apart; the same one twice where the clip has no other."""
    first = int(rng.integers(len(clip)))
    step = int(rng.integers(1, gap + 1)) * (1 if rng.random() < 0.5 else -1)
    second = first + step if 0 <= first + step < len(clip) else first - step
    second = min(max(second, 0), len(clip) - 1)
    frame = clip.read(first)
    return frame, frame if second == first else clip.read(second)


def _look(
    frame: Picture, size: tuple[int, int], wanted: Wanted, options: Augmentation, rng: np.random.Generator
) -> View:
    return random_view(frame.size, size, options, rng, wanted.scale)


class _Donors(NamedTuple):
    """Another pair, the view of each of its frames, and which of its things are pasted."""

    frames: tuple[Picture, Picture]
    views: tuple[View, View]
    things: list[Thing]


def _draw_donors(
    clips: Sequence[Clip],
    size: tuple[int, int],
    wanted: Wanted,
    options: Augmentation,
    apart: bool,
    rng: np.random.Generator,
) -> _Donors:
    frames = _read_pair(clips[int(rng.integers(len(clips)))], wanted.gap, rng)
    view = _look(frames[0], size, wanted, options, rng)
    views = view, _look(frames[1], size, wanted, options, rng) if apart else view
    labels = [view_labels(*f[1:], v, None, wanted.grid) for f, v in zip(frames, views, strict=True)]
    return _Donors(frames, views, choose_things(labels, wanted.taxonomy, options.pasted, rng))
