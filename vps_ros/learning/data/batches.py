"""Batches of pairs of frames, or of pairs of clips, from videos of any source: the same seed gives the same batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
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
    add_noise,
    apply_view,
    random_colours,
    random_view,
    recolour,
    stylise,
    view_labels,
)
from vps_ros.learning.data.clips import Clip, Picture
from vps_ros.learning.data.mixture import Mixture, Portion
from vps_ros.learning.data.paste import ObjectKey, choose_objects, jitter_view, paste, placeable_objects, placing_view
from vps_ros.learning.data.targets import Targets, make_targets, stack
from vps_ros.learning.network_io import STRIDE_4, LabelGrid
from vps_ros.learning.recipe import Augmentation
from vps_ros.taxonomy import Taxonomy


@dataclass(frozen=True)
class Batch:
    """uint8 images [B, H, W, 3] and their targets; images 2i and 2i + 1 are a pair of one video.

    `choice` (int64 [B, h, w], or None) is the quarter of each cell at which the targets were sampled, 0..3. With clips
    of T frames, there are T images for each of the targets, which are those of one tall image (`join_frames`): a row is
    a tube. Targets 2i and 2i + 1 are then of two clips of one video.
    """

    images: Tensor
    targets: Targets
    choice: Tensor | None = None

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in `count` parts of equal size; pairs are not split."""
        for i in range(count):
            images, targets = (
                slice(i * n // count, (i + 1) * n // count) for n in (len(self.images), len(self.targets.classes))
            )
            choice = None if self.choice is None else self.choice[images]
            yield Batch(self.images[images], self.targets.map(itemgetter(targets)), choice)

    def to(self, device: torch.device) -> Batch:
        """A copy of the batch on a device."""
        choice = None if self.choice is None else self.choice.to(device)
        return Batch(self.images.to(device), self.targets.map(lambda t: t.to(device)), choice)


@dataclass(frozen=True)
class BatchSpec:
    """The requirements of a network and its data for every batch.

    Attributes:
        max_segments: largest number of segments of an image.
        label_grid: where labels are sampled.
        random_quarters: labels are sampled in a random quarter of each cell, for a model with a detail branch.
        scale, gap: for clips that are not a Mixture; gap is the largest distance of the two frames of a pair.
        codes: meaning of the values of label maps; None if they are class ids.
        frames: of each clip.
    """

    taxonomy: Taxonomy
    max_segments: int
    label_grid: LabelGrid = STRIDE_4
    random_quarters: bool = False
    scale: Scale = OWN_SCALE
    gap: int = 3
    codes: LabelCodes | None = None
    frames: int = 1


def training_batch(
    clips: Sequence[Clip] | Mixture,
    size: tuple[int, int],
    pairs: int,
    spec: BatchSpec,
    options: Augmentation,
    seed: tuple[int, ...],
    share: float = 0.0,
) -> Batch:
    """The batch of a `seed`; always the same for one seed, so that a resumed run continues with the same batches.

    The pair of a still image is two views of it, with the same objects.

    Args:
        share: progress of the run, in 0..1.
    """
    rng = np.random.default_rng(seed)
    mixture = clips if isinstance(clips, Mixture) else Mixture((Portion(clips, spec.scale, spec.gap),))
    sampler = _PairSampler(mixture, share, size, spec, options, rng)
    images, targets, choices = [], [], []
    for portion, clip in mixture.draw(pairs, share, rng):
        for frames in sampler.pair(portion, clip):
            images += [picture.image for picture, _ in frames]
            choices += [choice for _, choice in frames]
            semantic, instance = (
                np.concatenate(maps) for maps in zip(*(picture[1:] for picture, _ in frames), strict=True)
            )
            targets.append(make_targets(semantic, instance, spec.taxonomy, spec.max_segments, spec.codes))
    choice = torch.from_numpy(np.stack(choices)) if spec.random_quarters else None
    return Batch(torch.from_numpy(np.stack(images)), stack(targets), choice)


class _Donors(NamedTuple):
    """A pair whose objects are pasted into another one: its frames, the view of each, and the chosen objects."""

    frames: tuple[Picture, Picture]
    views: tuple[View, View]
    things: list[ObjectKey]


@dataclass(frozen=True)
class _PairSampler:
    """Draws and augments the pairs of a batch; arguments as of training_batch."""

    mixture: Mixture
    share: float
    size: tuple[int, int]
    spec: BatchSpec
    options: Augmentation
    rng: np.random.Generator

    def pair(self, portion: Portion, clip: Clip) -> Iterator[list[tuple[Picture, NDArray[np.int64] | None]]]:
        """Both sides of a pair: the augmented frames, each with the quarters at which its labels were sampled.

        The frames of one side, a clip, have one view, one change of colours and one style.
        """
        rng, options, grid = self.rng, self.options, self.spec.label_grid
        sides = _read_pair(clip, portion.gap, rng, self.spec.frames)
        view, colours = self._view(portion, sides[0][0]), random_colours(options.colour, rng)
        apart = rng.random() < options.apart or sides[0] is sides[1]
        pasted = options.paste and rng.random() < options.paste
        donors = list(self._donors(portion, apart)) if pasted else []
        style = self._style(portion)
        for i, frames in enumerate(sides):
            if i and apart:
                view, colours = self._view(portion, frames[0]), random_colours(options.colour, rng)
                style = style and self._style(replace(portion, style=1.0))
            done = []
            for frame in frames:
                choice = rng.integers(4, size=grid.of(self.size)[::-1]) if self.spec.random_quarters else None
                picture = apply_view(frame, view, choice, grid)
                for d in donors:
                    picture = paste(picture, d.frames[i], d.views[i], d.things, choice, grid)
                image = recolour(picture.image, colours)
                if style:
                    seed, statistics = style
                    image = stylise(image, np.random.default_rng(seed), statistics)
                done.append((picture._replace(image=add_noise(image, options, rng)), choice))
            yield done

    def _view(self, portion: Portion, frame: Picture) -> View:
        options = replace(self.options, zoom=1.0) if portion.crops else self.options
        return random_view(frame.size, self.size, options, self.rng, portion.scale)

    def _style(self, portion: Portion) -> tuple[int, ColourStatistics | None] | None:
        """Random seed and colour statistics of a style, or None."""
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
            frames = _read_frames(source.clips[int(rng.integers(len(source.clips)))], source.gap, rng)
            things = placeable_objects(frames[0], self.spec.taxonomy)
            if things:
                thing = things[int(rng.integers(len(things)))]
                view = placing_view(frames[0], thing, self.size, rng)
                yield _Donors(frames, (view, jitter_view(view, rng)), [thing])

    def _own_donors(self, portion: Portion, apart: bool) -> _Donors:
        rng, spec = self.rng, self.spec
        frames = _read_frames(portion.clips[int(rng.integers(len(portion.clips)))], portion.gap, rng)
        view = self._view(portion, frames[0])
        views = view, self._view(portion, frames[1]) if apart else view
        labels = [view_labels(*f[1:], v, None, spec.label_grid) for f, v in zip(frames, views, strict=True)]
        return _Donors(frames, views, choose_objects(labels, spec.taxonomy, self.options.pasted, rng))


def _read_pair(
    clip: Clip, gap: int, rng: np.random.Generator, count: int
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Two clips of `count` consecutive frames, whose first frames are at most `gap` apart.

    One clip twice if the video has no other; its last frame is repeated if it is shorter.
    """
    first = int(rng.integers(len(clip)))
    step = int(rng.integers(1, gap + 1)) * (1 if rng.random() < 0.5 else -1)
    second = first + step if 0 <= first + step < len(clip) else first - step
    second = min(max(second, 0), len(clip) - 1)
    one = _read_from(clip, first, count)
    return one, one if second == first else _read_from(clip, second, count)


def _read_frames(clip: Clip, gap: int, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Two frames at most `gap` apart; one frame twice if the video has no other."""
    (one,), (other,) = _read_pair(clip, gap, rng, 1)
    return one, other


def _read_from(clip: Clip, first: int, count: int) -> tuple[Picture, ...]:
    start = max(min(first, len(clip) - count), 0)
    return tuple(clip.read(min(start + i, len(clip) - 1)) for i in range(count))
