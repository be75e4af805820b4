"""Overlap tables of noise, where every way of finding the segments is taken, against np.unique over the pixels."""

import numpy as np
import pytest

from vps_ros.evaluation.overlaps import Classes, Overlaps, overlaps, unique_inverse
from vps_ros.taxonomy import CITYSCAPES

CLASSES = Classes(CITYSCAPES)
THINGS, VOID_COLUMN = range(11, 19), 19


def noise(rng, size, high):
    semantic = rng.choice([0, 5, 11, 13, 18, 255], size)
    return semantic, rng.choice([0, 1, 2, 3, high], size)


def by_pixel(gt, pred):
    """{(true code, predicted code): pixels}."""
    codes = [np.where(c == 255, VOID_COLUMN, c) * 2**32 + np.where(np.isin(c, THINGS), i, 0) for c, i in (gt, pred)]
    pairs, counts = np.unique(np.stack([c.ravel() for c in codes]), axis=1, return_counts=True)
    return {tuple(pair): count for pair, count in zip(pairs.T.tolist(), counts.tolist(), strict=True)}


def as_dict(table):
    rows = zip(table.gt.tolist(), table.pred.tolist(), table.count.tolist(), strict=True)
    return {(gt, pred): count for gt, pred, count in rows}


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (3, 5), (40, 60)])
@pytest.mark.parametrize("high", [4, 65_535, 200_000, 2**32 - 1])
def test_every_pixel_is_counted_under_its_pair(size, high):
    rng = np.random.default_rng(high)
    gt, pred = noise(rng, size, high), noise(rng, size, high)
    table = overlaps(CLASSES, *gt, *pred)
    assert as_dict(table) == by_pixel(gt, pred)
    pairs = list(zip(table.gt.tolist(), table.pred.tolist(), strict=True))
    assert pairs == sorted(pairs)


def test_tables_add_up_to_that_of_the_frames_side_by_side():
    rng = np.random.default_rng(0)
    frames = [(*noise(rng, (30, 40), 9), *noise(rng, (30, 40), 9)) for _ in range(4)]
    added = Overlaps.add([overlaps(CLASSES, *frame) for frame in frames])
    together = overlaps(CLASSES, *(np.concatenate(maps) for maps in zip(*frames, strict=True)))
    assert as_dict(added) == as_dict(together)


@pytest.mark.parametrize("codes", [[], [7], [3, -1, 3], [5, 0, 5, 2] * 300, [-1, 9] * 300, [2**40, 1] * 300])
def test_dense_is_np_unique_with_its_inverse(codes):
    codes = np.array(codes, np.int64)
    ids, index = unique_inverse(codes)
    expected, inverse = np.unique(codes, return_inverse=True)
    assert ids.tolist() == expected.tolist()
    assert index.tolist() == inverse.tolist()
