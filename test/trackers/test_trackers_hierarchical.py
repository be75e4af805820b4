"""The hierarchical tracker as its users see it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trackers_scene import BACKGROUND, HEIGHT, RATE, WIDTH, Thing, identities, render
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.frame import THING_BASE, AssociatedBy, Frame, Segmentation, TrackState
from vps_ros.trackers import make_tracker

NOTHING = Segmentation(
    np.zeros((HEIGHT, WIDTH), np.uint8),
    np.empty(0, np.int32),
    np.empty(0, bool),
    np.empty(0, np.float32),
    np.empty(0, np.int64),
    np.empty((0, 4), np.float32),
)


def tracker(**parameters):
    return make_tracker(Config(**parameters))


def empty(stamp):
    return Frame(BACKGROUND, stamp), NOTHING


def drive(track, things, frames, stamps=None):
    """[{name: track id}] of each frame."""
    out = []
    for f in range(frames):
        stamp = f * RATE if stamps is None else stamps[f]
        frame, segmentation, names = render(things, stamp, f)
        out.append(identities(track.step(frame, segmentation), names))
    return out


# Identities


def test_fields_of_a_track():
    track = tracker(confirm_hits=2)
    things = [Thing((10, 10, 30, 40), (4, 2), name=1, hidden=frozenset({3}))]
    seen = []
    for f in range(5):
        frame, segmentation, _ = render(things, f * RATE, f)
        seen.append(track.step(replace(frame, stamp=10**18 + f * RATE), segmentation))
    first, second, third, hidden, back = (s[0] for s in seen)
    assert all(len(s) == 1 for s in seen)
    assert [t.state for t in (first, second, hidden, back)] == [
        TrackState.TENTATIVE,
        TrackState.CONFIRMED,
        TrackState.LOST,
        TrackState.CONFIRMED,
    ]
    assert first.associated_by == AssociatedBy.NEW and first.association_score == 0
    assert second.associated_by == AssociatedBy.PIXELS and 0.5 < second.association_score <= 1
    assert (first.hits, third.hits, hidden.hits, back.hits) == (1, 3, 3, 4)
    assert first.velocity == (0, 0)
    assert third.velocity == pytest.approx((40, 20), abs=1e-3)
    assert hidden.index == -1 and hidden.segment_id == 0
    assert hidden.box == pytest.approx(np.array(third.box) + (4, 2, 4, 2), abs=0.5)
    assert (hidden.first_seen, hidden.last_seen) == (10**18, 10**18 + 2 * RATE)
    assert back.segment_id == THING_BASE + back.slot
    assert (back.area, back.class_id, back.score) == (600, 13, 0.5)
    assert isinstance(back.track_id, int) and isinstance(back.box, tuple) and isinstance(back.box[0], float)


def test_object_that_first_appears_later_is_stored():
    """Video-kMaX's released code stores new objects of the first frame only."""
    things = [
        Thing((5, 5, 20, 20), name=1),
        Thing((50, 30, 70, 60), (1, 0), name=2, hidden=frozenset({0, 1, 2, 6, 7, 8})),
    ]
    ids = drive(tracker(), things, 12)
    assert ids[3][2] == ids[5][2] == ids[9][2] == ids[11][2]


def test_two_frames_ago_counts():
    """Hidden for one frame and seen in one only: its motion is unknown, but pixels of two frames ago know it."""
    things = [Thing((20, 20, 50, 50), (2, 0), name=1, hidden=frozenset({1}))]
    track = tracker()
    for f in range(3):
        frame, segmentation, _ = render(things, f * RATE, f)
        tracks = track.step(frame, segmentation)
    assert [(t.track_id, t.associated_by) for t in tracks] == [(1, AssociatedBy.PIXELS)]


def test_certainty_is_a_parameter():
    things = [Thing((20, 20, 50, 50), (2, 0), name=1)]
    assert drive(tracker(association_threshold=1.0), things, 3) == [{1: 1}, {1: 2}, {1: 3}]
    assert drive(tracker(association_threshold=0.0), things, 3) == [{1: 1}] * 3


# Tubes of clips


def with_tubes(things, tubes, frame):
    """Frame and Segmentation of the things; `tubes` by name."""
    image, segmentation, names = render(things, frame * RATE, frame)
    numbers = np.array([tubes[name] for name in names], np.int64)
    return image, replace(segmentation, tubes=numbers), names


@pytest.mark.parametrize(("name", "swapped"), [("hierarchical", False), ("hila_mb", True)])
def test_masks_overrule_a_wrong_tube(name, swapped):
    """Two things that stand still, whose tubes are exchanged in the last frame."""
    track = tracker(tracker=name)
    things = [Thing((5, 10, 35, 50), name=1), Thing((80, 10, 120, 50), name=2)]
    for frame, tubes in enumerate([{1: 1, 2: 2}, {1: 1, 2: 2}, {1: 2, 2: 1}]):
        image, segmentation, names = with_tubes(things, tubes, frame)
        found = identities(track.step(image, segmentation), names)
    assert found == ({1: 2, 2: 1} if swapped else {1: 1, 2: 2})


@pytest.mark.parametrize("same", [2, 3])
def test_a_tube_decides_where_nothing_else_does(same):
    """A thing is not seen for two frames; then two of its appearance are at the same distance to its left and right."""
    track = tracker(tube_weight=12)
    gone, before = frozenset({2, 3}), frozenset({0, 1, 2, 3})
    things = [
        Thing((50, 20, 70, 40), name=1, hidden=gone | {4}),
        Thing((32, 20, 52, 40), name=1, hidden=before),
        Thing((68, 20, 88, 40), name=1, hidden=before),
    ]
    for frame in range(5):
        image, segmentation, _ = render(things, frame * RATE, frame)
        numbers = np.array([7] if frame < 2 else [7, 8] if same == 2 else [8, 7], np.int64)[: len(segmentation)]
        tracks = track.step(image, replace(segmentation, tubes=numbers))
    assert {t.track_id: t.index for t in tracks}[1] == same - 2


# Memory


@pytest.mark.parametrize("embedding", [None, (1.0, 2.0, -1.0)])
@pytest.mark.parametrize("hidden", [1, 2, 5, 9])
@pytest.mark.parametrize("unit", ["frames", "seconds"])
def test_hidden_for_fewer_than_tau_frames_comes_back(embedding, hidden, unit):
    tau = 10 if unit == "frames" else 1.0
    gone = frozenset(range(3, 3 + hidden))
    things = [
        Thing((5, 10, 25, 30), (5, 0), name=1, hidden=gone, embedding=embedding),
        Thing((100, 40, 120, 60), (0, 1), name=2, embedding=embedding),
    ]
    ids = drive(tracker(memory_tau=tau, memory_unit=unit), things, 4 + hidden)
    assert ids[-1] == ids[0]


def test_hidden_for_tau_frames_is_forgotten_and_its_slot_is_free_only_then():
    track = tracker(memory_tau=3)
    gone = frozenset(range(2, 2 + 3))
    things = [Thing((10, 10, 30, 40), name=1, hidden=gone)]
    slots = []
    for f in range(6):
        frame, segmentation, _ = render(things, f * RATE, f)
        tracks = track.step(frame, segmentation)
        slots.append([(t.track_id, t.slot, t.state == TrackState.LOST) for t in tracks])
    assert slots[4] == [(1, 0, True)]
    assert slots[5] == [(2, 0, False)]


def test_slot_of_a_remembered_object_is_not_given_away():
    track = tracker(memory_tau=3)
    track.step(*render([Thing((10, 10, 30, 40), name=1)])[:2])
    for f in (1, 2):
        tracks = track.step(*render([Thing((90, 10, 100, 20), class_id=11, name=2)], f * RATE)[:2])
    assert [(t.track_id, t.slot, t.index) for t in tracks] == [(1, 0, -1), (2, 1, 0)]


def test_frames_without_objects_age_the_memory():
    track = tracker(memory_tau=4, confirm_hits=1)
    track.step(*render([Thing((10, 10, 30, 40), name=1)])[:2])
    counts = [len(track.step(*empty(f * RATE))) for f in range(1, 7)]
    assert counts == [1, 1, 1, 1, 0, 0]


def test_tentative_objects_are_dropped_sooner():
    track = tracker(memory_tau=10, tentative_tau=2, confirm_hits=2)
    twice = Thing((10, 10, 30, 40), name=1)
    once = Thing((80, 10, 100, 40), name=2, hidden=frozenset({1}))
    for f in range(2):
        track.step(*render([twice, once], f * RATE, f)[:2])
    alive = [[t.track_id for t in track.step(*empty(f * RATE))] for f in range(2, 13)]
    assert alive == [[1, 2]] + [[1]] * 9 + [[]]


def test_embeddings_may_come_and_go_and_change_length():
    track = tracker()
    ids = []
    for f, embedding in enumerate([None, (1.0, 0.0), (1.0, 0.0, 0.0), None, (0.0, 1.0)]):
        frame, segmentation, names = render([Thing((10, 10, 30, 40), name=1, embedding=embedding)], f * RATE)
        ids.append(identities(track.step(frame, segmentation), names)[1])
    assert set(ids) == {1}


def test_more_objects_than_numbers_is_refused_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr("vps_ros.trackers.memory._LAST_SLOT", 1)
    track = tracker()
    two = [Thing((10, 10, 30, 40), name=1), Thing((90, 10, 110, 40), name=2)]
    third = Thing((50, 10, 60, 40), class_id=11, name=3)
    assert drive(track, two, 1) == [{1: 1, 2: 2}]
    with pytest.raises(InputError, match="3 objects are remembered at once.*memory_tau"):
        track.step(*render([*two, third], RATE)[:2])
    frame, segmentation, names = render(two, 2 * RATE)
    assert identities(track.step(frame, segmentation), names) == {1: 1, 2: 2}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_every_type_of_map(dtype):
    things = [Thing((10, 10, 30, 40), (3, 0), name=1), Thing((90, 10, 110, 40), name=2)]
    track = tracker()
    for f in range(3):
        frame, segmentation, names = render(things, f * RATE, f, dtype=dtype)
        tracks = track.step(frame, segmentation)
    assert identities(tracks, names) == {1: 1, 2: 2}
    assert {t.associated_by for t in tracks} == {AssociatedBy.PIXELS}


def test_flow_time_is_reported():
    track = tracker()
    things = [Thing((10, 10, 30, 40), name=1)]
    for f in range(3):
        track.step(*render(things, f * RATE)[:2])
    assert track.milliseconds["flow"] > 0 and track.milliseconds["track"] > 0


def test_unknown_tracker_is_refused():
    with pytest.raises(InputError, match="tracker"):
        Config(tracker="nearest")


@pytest.mark.parametrize(
    "parameters",
    [
        {"memory_tau": -2.0},
        {"memory_tau": -0.5},
        {"location_temperature": 0.0},
        {"memory_unit": "hours"},
        {"flow_preset": "best"},
    ],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InputError, match=next(iter(parameters))):
        tracker(**parameters)


# Properties


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.integers(-3, 4),
    st.integers(-1, 1),
    st.booleans(),
    st.booleans(),
)
def test_hidden_on_a_straight_path(data, x, y, embedded, uneven):
    """Seen in two frames or more, hidden for fewer than tau and 5, at any steps of time, another object beside it."""
    tau = data.draw(st.integers(2, 10))
    before = data.draw(st.integers(2, 4))
    hidden = data.draw(st.integers(1, min(tau - 1, 4)))
    frames = before + hidden + 1
    steps = data.draw(st.lists(st.sampled_from([1, 2, 3] if uneven else [1]), min_size=frames, max_size=frames))
    stamps = np.cumsum([0, *steps])[:frames] * RATE
    embeddings = [(1.0, 0.2, 0.0), (0.1, 1.0, 0.3)] if embedded else [None, None]
    things = [
        Thing((50, 20, 70, 45), (x, y), 13, embeddings[0], frozenset(range(before, before + hidden)), 1),
        Thing((5, 2, 25, 15), (0, 0), 13, embeddings[1], name=2),
    ]
    ids = drive(tracker(memory_tau=tau), things, frames, stamps)
    left, _, right, _ = things[0].at(stamps[-1])
    # Of what the border cuts off, little is left to know it by.
    if 1 in ids[-1] and left >= 0 and right <= WIDTH:
        assert ids[-1][1] == ids[0][1]
    assert {i[2] for i in ids if 2 in i} == {ids[0][2]}
