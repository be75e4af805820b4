"""Video K-Net's quasi-dense tracker against answers worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trackers_scene import (
    RATE,
    at,
    identities,
    ids_of,
    render,
    tracker,
)
from vps_ros.frame import AssociatedBy
from vps_ros.trackers.quasi_dense import QuasiDenseParameters
from vps_ros.trackers.similarity import bidirectional_softmax


def look(axis, length=3.0):
    return tuple(length * np.eye(4)[axis])


def test_bidirectional_softmax_by_hand():
    ln2 = math.log(2)
    both = bidirectional_softmax(np.array([[ln2, 0], [0, ln2]]))
    assert both == pytest.approx(np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]))
    assert bidirectional_softmax(np.array([[ln2, 0]])) == pytest.approx(np.array([[5 / 6, 2 / 3]]))
    assert bidirectional_softmax(np.array([[1e4, 0]], np.float32)) == pytest.approx(np.array([[1, 0.5]]))
    assert bidirectional_softmax(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(("length", "near", "far"), [(1.5, 2.25, 0.45), (10.0, 100, 20), (1.0, 10, 2)])
def test_quasi_dense_multiplies(length, near, far):
    """Two objects, one thing: (softmax over objects + 1) / 2 of the raw products, or of cosines over 0.1."""
    known = [at(10, embedding=(length, 0.0)), at(60, embedding=(0.2 * length, math.sqrt(0.96) * length), name=2)]
    track = tracker("quasi_dense", instance_temperature=0.1)
    ids_of(track, [known], {1: 0.9, 2: 0.9})
    frame, segmentation, _ = render([at(10, embedding=(length, 0.0))])
    seen = [t for t in track.step(replace(frame, stamp=RATE), segmentation) if t.index >= 0]
    assert [t.track_id for t in seen] == [1]
    assert seen[0].association_score == pytest.approx((1 / (1 + math.exp(far - near)) + 1) / 2, rel=1e-5)
    assert seen[0].associated_by == AssociatedBy.INSTANCE


def test_quasi_dense_pairs_one_class_only():
    """The softmax is over all classes, and only then is another class ruled out."""
    frames = [[at(10, embedding=look(0))], [at(10, embedding=look(0), class_id=11)]]
    assert ids_of(tracker("quasi_dense"), frames, {1: 0.9}) == [{1: 1}, {1: 2}]


def test_quasi_dense_serves_the_highest_score_first():
    """Two things alike to one object, (1 + 0.5) / 2 each: the better scored one is it, wherever it stands."""
    for scores, expected in (({1: 0.9, 2: 0.8}, {1: 1, 2: 2}), ({1: 0.8, 2: 0.9}, {1: 2, 2: 1})):
        frames = [[at(10, embedding=look(0))], [at(10, embedding=look(0)), at(60, embedding=look(0), name=2)]]
        assert ids_of(tracker("quasi_dense"), frames, scores)[1] == expected


def test_quasi_dense_starts_no_object_from_a_low_score():
    """0.34 is not above init: each sighting is a stranger that is remembered as a backdrop for one frame."""
    track = tracker("quasi_dense")
    ids, alive = [], []
    for f in range(4):
        frame, segmentation, names = render([at(10, embedding=look(0))] if f < 2 else [])
        segmentation.scores[:] = 0.34
        tracks = track.step(replace(frame, stamp=f * RATE), segmentation)
        ids.append(identities(tracks, names))
        alive.append([t.track_id for t in tracks])
    assert ids == [{1: 1}, {1: 2}, {}, {}]
    assert alive == [[1], [1, 2], [2], []]
    assert ids_of(tracker("quasi_dense", init_threshold=0.3), [[at(10, embedding=look(0))]] * 2, {1: 0.34})[1] == {1: 1}


def test_quasi_dense_sees_an_object_again_above_a_lower_score():
    """Started at 0.9, seen at 0.31 (above object_threshold, below init), and at 0.29, a doubtful look."""
    frames = [[at(10, embedding=look(0))]] * 2
    for score, expected in ((0.31, 1), (0.29, 2)):
        track = tracker("quasi_dense")
        ids_of(track, frames[:1], {1: 0.9})
        frame, segmentation, names = render(frames[1])
        segmentation.scores[:] = score
        assert identities(track.step(replace(frame, stamp=RATE), segmentation), names) == {1: expected}


def test_quasi_dense_removes_low_scored_tracks_at_once():
    """A low-scored look at a known object is no backdrop that would compete with it: it is gone in the next frame."""
    track, found = tracker("quasi_dense"), []
    for f, score in enumerate((0.9, 0.2, 0.9)):
        frame, segmentation, _ = render([at(10, embedding=look(0))])
        segmentation.scores[:] = score
        found.append([(t.track_id, t.index) for t in track.step(replace(frame, stamp=f * RATE), segmentation)])
    assert found == [[(1, 0)], [(1, -1), (2, 0)], [(1, 0)]]


def test_quasi_dense_keeps_low_scored_tracks_through_a_change_of_parameters():
    """The doubtful look of the frame before the change is gone in the frame after it all the same."""
    track, found = tracker("quasi_dense"), []
    for f, score in enumerate((0.9, 0.2, 0.9)):
        if f == 2:
            track.configure(QuasiDenseParameters(match_threshold=0.45))
        frame, segmentation, _ = render([at(10, embedding=look(0))])
        segmentation.scores[:] = score
        found.append([t.track_id for t in track.step(replace(frame, stamp=f * RATE), segmentation)])
    assert found == [[1], [1, 2], [1]]


def test_quasi_dense_backdrops_guard_objects():
    """What matches a backdrop better than the object does not take the object's identity; a frame later it would."""
    car = at(10, embedding=(3.0, 0.0))
    poster = at(60, embedding=(2.5, 1.7), name=2)
    scores = {1: 0.9, 2: 0.2, 3: 0.9}
    later = replace(poster, name=3)
    assert ids_of(tracker("quasi_dense"), [[car, poster], [later]], scores)[1] == {3: 3}
    assert ids_of(tracker("quasi_dense"), [[car, poster], [], [later]], scores)[2] == {3: 1}


def test_quasi_dense_remembers_for_five_frames():
    for hidden, expected in ((4, 1), (5, 2)):
        frames = [[at(10, embedding=look(0))], *[[]] * hidden, [at(90, 40, embedding=look(0))]]
        assert ids_of(tracker("quasi_dense"), frames, {1: 0.9})[-1] == {1: expected}


def test_quasi_dense_momentum():
    """0.2 (3, 0) + 0.8 (1.8, 2.4) = (2.04, 1.92), not normalised: the product with (0, 2) is 3.84, with the other 0."""
    track = tracker("quasi_dense")
    other = at(60, embedding=look(3), name=2)
    ids_of(track, [[at(10, embedding=e), other] for e in (look(0), (1.8, 2.4, 0.0, 0.0))], {1: 0.9, 2: 0.9})
    frame, segmentation, _ = render([at(10, embedding=look(1, 2.0))])
    (seen,) = [t for t in track.step(replace(frame, stamp=2 * RATE), segmentation) if t.index >= 0]
    assert (seen.track_id, seen.hits) == (1, 3)
    assert seen.association_score == pytest.approx((1 / (1 + math.exp(-3.84)) + 1) / 2, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)), st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_quasi_dense_ids_stay_with_their_segments(first, second, weak):
    """In the released code ids come back sorted and without the low scores, but index all masks: they shift."""
    things = [at(2 + 20 * n, width=16, embedding=tuple(4 * np.eye(6)[n]), name=n) for n in range(6)]
    scores = {n: 0.32 if n in weak else 0.6 + 0.05 * n for n in range(6)}
    track, found = tracker("quasi_dense"), []
    for f, order in enumerate((range(6), first, second)):
        frame, segmentation, names = render(things, 0, 0, order)
        segmentation.scores[:] = [0.9 if f == 0 else scores[n] for n in names]
        tracks = track.step(replace(frame, stamp=f * RATE), segmentation)
        found.append(identities(tracks, names))
        for t in tracks:
            assert t.box[0] == 2 + 20 * names[t.index] and t.score == pytest.approx(segmentation.scores[t.index])
    assert found == [{n: n + 1 for n in range(6)}] * 3
