"""Small moving scenes for the trackers' tests: textured rectangles on a textured background."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from vps_ros.config import Config
from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers import make_tracker

HEIGHT, WIDTH = 72, 128
RATE = 100_000_000


def texture(seed, height=HEIGHT, width=WIDTH):
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)


BACKGROUND = texture(10**6)


@dataclass(frozen=True)
class Thing:
    """A rectangle: x0 y0 x1 y1 at stamp 0, pixels per RATE, class, appearance, and when it is hidden."""

    box: tuple[float, float, float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    class_id: int = 13
    embedding: tuple[float, ...] | None = None
    hidden: frozenset[int] = frozenset()
    name: int = 0

    def at(self, stamp):
        shift = np.array(self.velocity * 2) * (stamp / RATE)
        return np.array(self.box) + shift


def render(things, stamp=0, frame=0, order=None, dtype=np.uint8):
    """(Frame, Segmentation, names) of the things not hidden in `frame`; segments numbered in `order`.

    Later things cover earlier ones; one that no pixel is left of has no segment.
    """
    image = BACKGROUND.copy()
    mask = np.zeros((HEIGHT, WIDTH), np.int64)
    visible = [t for t in things if frame not in t.hidden]
    for number, thing in enumerate(visible, 1):
        x0, y0, x1, y1 = np.round(thing.at(stamp)).astype(int)
        inside = (slice(max(y0, 0), max(y1, 0)), slice(max(x0, 0), max(x1, 0)))
        mask[inside] = number
        pattern = texture(thing.name, max(y1 - y0, 1), max(x1 - x0, 1))
        image[inside] = pattern[max(-y0, 0) :, max(-x0, 0) :][: image[inside].shape[0], : image[inside].shape[1]]
    return segmented(image, mask, visible, stamp, order, dtype)


def segmented(image, mask, visible, stamp=0, order=None, dtype=np.uint8):
    """As `render`, from a map [H, W] of 1 + place in `visible`."""
    present = [n for n in range(1, len(visible) + 1) if (mask == n).any()]
    if order is not None:
        present = [present[i] for i in np.argsort(np.asarray(order)[: len(present)], kind="stable")]
    table = np.zeros(len(visible) + 1, dtype)
    table[present] = np.arange(1, len(present) + 1)
    boxes = np.zeros((len(present), 4), np.float32)
    for k, number in enumerate(present):
        y, x = np.nonzero(mask == number)
        boxes[k] = x.min(), y.min(), x.max() + 1, y.max() + 1
    chosen = [visible[n - 1] for n in present]
    embeddings = None
    if chosen and all(t.embedding is not None for t in chosen):
        embeddings = np.array([t.embedding for t in chosen], np.float32)
    segmentation = Segmentation(
        table[mask],
        np.array([t.class_id for t in chosen], np.int32),
        np.ones(len(chosen), bool),
        np.linspace(0.5, 1, len(chosen), dtype=np.float32),
        np.array([(mask == n).sum() for n in present], np.int64),
        boxes,
        embeddings,
    )
    return Frame(image, stamp), segmentation, [t.name for t in chosen]


def identities(tracks, names):
    """{name: track id} of the things in the frame; every thing segment must have exactly one track."""
    seen = [t for t in tracks if t.index >= 0]
    assert sorted(t.index for t in seen) == list(range(len(names)))
    assert len({t.slot for t in tracks}) == len({t.track_id for t in tracks}) == len(tracks)
    return {names[t.index]: t.track_id for t in seen}


def tracker(name, **parameters):
    return make_tracker(Config(tracker=name, **parameters))


def ids_of(track, frames, scores=None):
    """[{name: track id}] of frames that are lists of things, one RATE apart; `scores` by name."""
    found = []
    for f, things in enumerate(frames):
        frame, segmentation, names = render(things, 0)
        if scores is not None:
            segmentation.scores[:] = [scores[n] for n in names]
        found.append(identities(track.step(replace(frame, stamp=f * RATE), segmentation), names))
    return found


def at(x, y=10, width=20, height=20, **facts):
    return Thing((x, y, x + width, y + height), **{"name": 1, **facts})
