"""One-to-one assignment, and the overlap of masks, against answers worked out by hand."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.trackers.assignment import hungarian, mutual_best
from vps_ros.trackers.similarity import dice, overlap


def test_dice_under_a_known_shift():
    """A 4x4 square moved by one column shares 12 of its 16 pixels: 2 * 12 / 32."""
    before, after = np.zeros((8, 8), np.uint16), np.zeros((8, 8), np.uint16)
    before[2:6, 2:6] = 1
    after[2:6, 3:7] = 2
    after[0, :4] = 1
    joint = overlap(before, after, 1, 2)
    assert joint.tolist() == [[64 - 16 - 4 - 4, 4, 4], [4, 0, 12]]
    assert dice(joint).tolist() == [[0, 0.75]]


def test_dice_of_nothing_is_zero():
    empty_map = np.zeros((4, 4), np.uint16)
    assert dice(overlap(empty_map, empty_map, 2, 1)).tolist() == [[0], [0]]


def test_mutual_best_refuses_one_sided_pairs():
    """Row 1 likes column 0 best, which prefers row 0."""
    rows, columns = mutual_best(np.array([[0.9, 0.1], [0.8, 0.2]]), 0.15)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


def best_pairs(matrix, above, groups=None):
    matrix = np.array(matrix)
    rows, columns = np.nonzero(matrix > above)
    best = hungarian(rows, columns, matrix[rows, columns], None if groups is None else np.array(groups)[rows])
    return list(zip(rows[best].tolist(), columns[best].tolist(), strict=True))


def test_hungarian_takes_the_best_sum_of_the_candidates():
    assert best_pairs([[0.9, 0.8], [0.8, 0.1]], above=0.3) == [(0, 1), (1, 0)]
    assert best_pairs([[0.9, 0.2], [0.2, 0.1]], above=0.3) == [(0, 0)]
    assert best_pairs([[0.9, 0.6], [0.6, 0.1]], above=0.7) == [(0, 0)], "0.9 is not given up for two that are too low"
    assert best_pairs([[0.1]], above=0.3) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6), st.floats(0, 0.9))
def test_hungarian_equals_trying_everything(rows, columns, seed, threshold):
    matrix = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    found = best_pairs(matrix, threshold)
    assert len({r for r, _ in found}) == len({c for _, c in found}) == len(found)
    worth = np.where(matrix > threshold, matrix, 0)
    worth = worth if rows <= columns else worth.T
    places = range(worth.shape[1])
    best = max(sum(row[p] for row, p in zip(worth, pick, strict=True)) for pick in permutations(places, len(worth)))
    assert sum(matrix[r, c] for r, c in found) == pytest.approx(best)
    assert all(matrix[r, c] > threshold for r, c in found)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=7), st.lists(st.integers(1, 3), min_size=1, max_size=7), st.data()
)
def test_hungarian_of_groups_equals_that_of_all(rows, columns, data):
    """Pairs of different groups are not candidates."""
    matrix = np.random.default_rng(data.draw(st.integers(0, 10**6))).uniform(0, 1, (len(rows), len(columns)))
    matrix[np.not_equal.outer(rows, columns)] = 0
    assert best_pairs(matrix, 0.2, rows) == best_pairs(matrix, 0.2)
