"""Identities with look-ahead: tracklets, their links, and the rewritten tracks."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trackers_scene import RATE, WIDTH, Thing, render, tracker
from vps_ros.frame import AssociatedBy, TrackState
from vps_ros.trackers.colour_histogram import colour_histograms
from vps_ros.trackers.lookahead import Identities, best_links, link
from vps_ros.trackers.match_scorer import shipped_scorer
from vps_ros.trackers.tracklet_pairs import COLUMNS, candidates
from vps_ros.trackers.tracklets import TrackletRecorder

NAMES = {name: place for place, name in enumerate(COLUMNS)}


def run(frames, **parameters):
    """The recorder and the online tracks of frames that are lists of things, one RATE apart."""
    online, recorder, found = tracker("hierarchical", **parameters), TrackletRecorder(), []
    for f, things in enumerate(frames):
        frame, segments, names = render(things, f * RATE, f)
        tracks = online.step(frame, segments)
        colours = colour_histograms(frame.image, segments.map, segments.is_thing, segments.areas)
        recorder.add(0, frame.stamp, WIDTH, tracks, (segments.embeddings, colours), online.camera_motion)
        found.append((tracks, names))
    return recorder, found


def names_of(found, identities):
    """[{name: track id}] after rewriting; no two tracks of a frame share an id or a slot."""
    ids = []
    for tracks, names in found:
        after = identities.rewrite(0, tracks)
        seen = [t for t in after if t.index >= 0]
        assert sorted(t.index for t in seen) == list(range(len(names)))
        assert len({t.slot for t in after}) == len({t.track_id for t in after}) == len(after)
        ids.append({names[t.index]: t.track_id for t in seen})
    return ids


def walker(hidden=(), **facts):
    return Thing((4, 20, 16, 50), (1.5, 0), **{"class_id": 11, "hidden": frozenset(hidden), "name": 1, **facts})


def test_an_object_that_the_online_tracker_forgot_keeps_its_identity():
    """Hidden for 40 frames, and the online memory ends after 30; another object stays in view."""
    other = Thing((60, 4, 80, 16), (0, 0), 13, name=2)
    recorder, found = run([[walker(range(15, 55)), other]] * 70)
    online = [{names[t.index]: t.track_id for t in tracks if t.index >= 0} for tracks, names in found]
    assert online[0][1] != online[69][1]
    ids = names_of(found, Identities(recorder, link(recorder), 2))
    assert ids[0] == ids[14] and ids[69] == ids[0]
    assert {1, 2} == set(ids[0].values())


def test_another_object_elsewhere_is_not_linked():
    """A person leaves on the right; later a car of another colour and size appears on the left."""
    frames = [[walker()]] * 20 + [[]] * 40 + [[Thing((4, 4, 44, 20), (0, 0), 13, name=7)]] * 10
    recorder, found = run(frames)
    ids = names_of(found, Identities(recorder, link(recorder), 2))
    assert ids[0][1] != ids[69][7]


def test_the_class_is_that_of_most_frames():
    frames = [[walker(class_id=11 if f != 3 else 12)] for f in range(12)]
    recorder, found = run(frames)
    identities = Identities(recorder, link(recorder), 2)
    assert {t.class_id for tracks, _ in found for t in identities.rewrite(0, tracks)} == {11}


def test_the_location_is_predicted_from_both_ends():
    """Constant velocity: both predictions are exact, and the place without motion is 30 frames of it away."""
    recorder, _ = run([[walker(range(10, 40))]] * 50, memory_tau=5.0)
    links = candidates(recorder)
    assert (links.ends.tolist(), links.starts.tolist()) == ([0], [1])
    features = dict(zip(COLUMNS, links.features[0].tolist(), strict=True))
    # Boxes are rounded to pixels, and the background does not move.
    assert np.expm1(features["forward"]) < 0.5
    assert np.expm1(features["backward"]) < 0.5
    size = np.sqrt(12 * 30)
    assert np.expm1(features["static"]) == pytest.approx(31 * 1.5 / size, abs=0.3)
    assert features["same_class"] == 1
    assert features["height_ratio"] < 0.05
    assert features["log_gap"] == pytest.approx(np.log(31))
    assert features["log_seconds"] == pytest.approx(np.log(3.1))


def test_the_prediction_follows_the_camera():
    """The camera turns by a tenth of the image in each frame; the object stands still in the scene."""
    recorder, motion = TrackletRecorder(), np.array([[0.0, 0], [0, 0], [0.1, 0]])
    online = tracker("hierarchical")
    frame, segments, _ = render([Thing((10, 20, 20, 40), name=1)])
    first = online.step(frame, segments)[0]
    for f in range(8):
        box = (10 + 12.8 * f, 20.0, 20 + 12.8 * f, 40.0)
        seen = [first._replace(track_id=1 + (f > 4), box=box, hits=f % 5 + 1)] if f not in (3, 4) else []
        recorder.add(0, f * RATE, WIDTH, seen, (None, None), motion if f else None)
    features = candidates(recorder).features
    assert features.shape == (1, len(COLUMNS))
    for name in ("forward", "backward", "static"):
        assert features[0, NAMES[name]] == pytest.approx(0, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_best_links_are_the_best_of_all_assignments(rows, columns, data):
    pairs = [(r, c) for r in range(rows) for c in range(columns) if data.draw(st.booleans())]
    gains = np.array(data.draw(st.lists(st.integers(-3, 8), min_size=len(pairs), max_size=len(pairs))), float)
    ends, starts = np.array(pairs, np.int64).reshape(-1, 2).T
    chosen = best_links(ends, starts, gains)
    assert len(set(ends[chosen])) == len(set(starts[chosen])) == len(chosen)
    table = np.zeros((rows, max(rows, columns)))
    for (r, c), gain in zip(pairs, gains, strict=True):
        table[r, c] = max(gain, 0)
    best = max(sum(table[r, c] for r, c in enumerate(order)) for order in permutations(range(table.shape[1]), rows))
    assert gains[chosen].sum() == best
    assert (gains[chosen] > 0).all()


def two_pieces():
    """Track 1 in frames 0..2, lost in 3; track 2 in frames 4..5, which is the same object."""
    online = tracker("hierarchical")
    frame, segments, _ = render([walker()])
    one = online.step(frame, segments)[0]
    seen = [one._replace(track_id=1, hits=f + 1, last_seen=f * RATE) for f in range(3)]
    lost = seen[2]._replace(index=-1, state=TrackState.LOST)
    later = [one._replace(track_id=2, slot=1, hits=f + 1, first_seen=4 * RATE, class_id=12) for f in range(2)]
    frames = [[seen[0]], [seen[1]], [seen[2]], [lost], [lost, later[0]], [lost, later[1]]]
    recorder = TrackletRecorder()
    for f, tracks in enumerate(frames):
        recorder.add(0, f * RATE, WIDTH, tracks, (None, None), None)
    return recorder, frames


def test_rewritten_tracks_by_hand():
    recorder, frames = two_pieces()
    before, probability = link(recorder)
    assert before.tolist() == [-1, 0]
    identities = Identities(recorder, link(recorder), 2)
    assert len(identities) == 1
    after = [identities.rewrite(0, tracks) for tracks in frames]
    assert [len(tracks) for tracks in after] == [1] * 6
    tracks = [tracks[0] for tracks in after]
    assert {(t.track_id, t.slot, t.first_seen, t.class_id) for t in tracks} == {(1, 0, 0, 11)}
    assert [t.hits for t in tracks] == [1, 2, 3, 3, 4, 5]
    assert [t.state.name for t in tracks] == ["TENTATIVE", "CONFIRMED", "CONFIRMED", "LOST", "CONFIRMED", "CONFIRMED"]
    assert (tracks[0].associated_by, tracks[4].associated_by) == (AssociatedBy.NEW, AssociatedBy.MEMORY)
    assert tracks[4].association_score == probability[1]


def test_without_links_each_tracklet_is_an_object():
    recorder, frames = two_pieces()
    identities = Identities(recorder, link(recorder, threshold=1 - 1e-9), 2)
    after = [identities.rewrite(0, tracks) for tracks in frames]
    assert [[(t.track_id, t.slot) for t in tracks] for tracks in after] == [[(1, 0)]] * 4 + [[(1, 0), (2, 1)]] * 2


def test_sequences_are_not_linked():
    recorder, frames = two_pieces()
    again = TrackletRecorder()
    for f, tracks in enumerate(frames):
        again.add(int(f >= 4), f * RATE, WIDTH, [t for t in tracks if t.index >= 0], (None, None), None)
    assert len(candidates(again).ends) == 0
    assert len(Identities(again, link(again), 2)) == 2


def test_vectors_that_are_not_finite_or_change_their_length_are_unknown():
    recorder, frames = two_pieces()
    vectors = [[[1.0, 0]], [[np.nan, 1]], [[2.0, 0]], np.empty((0, 2)), [[1.0, 0, 0]], [[0.0, 1, 0]]]
    odd = TrackletRecorder()
    for f, (tracks, given_) in enumerate(zip(frames, vectors, strict=True)):
        odd.add(0, f * RATE, WIDTH, tracks, (np.array(given_, np.float32), None), None)
    np.testing.assert_array_equal(odd.tracklets[0].tail_vectors[0], [1, 0])
    assert np.isfinite(candidates(odd).features).all()


def test_no_track_at_all():
    recorder = TrackletRecorder()
    recorder.add(0, 0, WIDTH, (), (None, None), None)
    identities = Identities(recorder, link(recorder), 2)
    assert (len(identities), identities.rewrite(0, ())) == (0, ())


def test_memory_does_not_grow_with_the_length_of_a_tracklet():
    recorder, frames = two_pieces()
    long = TrackletRecorder()
    for f in range(500):
        long.add(0, f * RATE, WIDTH, [frames[0][0]._replace(hits=f + 1)], (np.ones((1, 4), np.float32), None), None)
    [one] = long.tracklets
    assert (one.hits, len(one.head), len(one.tail)) == (500, 6, 6)


def test_the_shipped_scorer_fits_the_features():
    assert shipped_scorer("lookahead", COLUMNS).about["columns"] == list(COLUMNS)
