"""What holds for every tracker, whatever its evidence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.trackers_scene import BACKGROUND, HEIGHT, RATE, WIDTH, Thing, identities, render, segmented
from vps_ros.errors import InputError
from vps_ros.frame import Frame, Segmentation, TrackState
from vps_ros.trackers import TRACKERS, tracker_class

every = pytest.mark.parametrize("name", sorted(TRACKERS))
AXES = 9 * np.eye(8)


def tracker(name, **parameters):
    return tracker_class(name)(settings_of(name, **parameters))


def settings_of(name, **parameters):
    return tracker_class(name).Parameters(**parameters)


def scored(things, stamp=0, frame=0, order=None):
    """As `render`, with scores that belong to the things, not to their places in the arrays."""
    picture, segmentation, names = render(things, stamp, frame, order)
    segmentation.scores[:] = [0.2 + (37 * n % 80) / 100 for n in names]
    return picture, segmentation, names


def drive(track, things, frames):
    """[{name: track id}] of each frame."""
    out = []
    for f in range(frames):
        frame, segmentation, names = scored(things, f * RATE, f)
        out.append(identities(track.step(frame, segmentation), names))
    return out


def three(**facts):
    return [
        Thing((10, 10, 30, 40), (3, 0), embedding=tuple(AXES[0]), name=2, **facts),
        Thing((90, 20, 110, 50), (-2, 1), class_id=11, embedding=tuple(AXES[1]), name=3, **facts),
        Thing((60, 50, 75, 65), embedding=tuple(AXES[2]), name=7, **facts),
    ]


@every
def test_moving_objects_keep_their_ids(name):
    ids = drive(tracker(name), three(), 12)
    assert all(i == ids[0] for i in ids)
    assert sorted(ids[0].values()) == [1, 2, 3]


@every
@given(st.lists(st.floats(-0.49, 0.49), min_size=12, max_size=12))
@example([0.49, -0.49] * 6)
@example([-0.49, 0.49] * 6)
@settings(max_examples=15)
def test_jitter_below_half_a_frame_interval_changes_no_id(name, jitter):
    """Of the stamps; the images are those of a steady camera."""
    track, ids = tracker(name), []
    for f, late in enumerate(jitter):
        frame, segmentation, names = scored(three(), f * RATE, f)
        stamp = round((1 + f + late) * RATE)
        ids.append(identities(track.step(replace(frame, stamp=stamp), segmentation), names))
    assert all(i == ids[0] for i in ids)


@every
def test_an_image_that_comes_late_changes_no_id(name):
    """2 ms before the next one, instead of 100 ms."""
    track, ids = tracker(name), []
    for f, milliseconds in enumerate((0, 100, 200, 300, 498, 500, 600, 700)):
        frame, segmentation, names = scored(three(), f * RATE, f)
        ids.append(identities(track.step(replace(frame, stamp=milliseconds * 1_000_000), segmentation), names))
    assert all(i == ids[0] for i in ids)


@every
def test_a_change_of_parameters_removes_no_track(name):
    """The same values again change nothing; a memory of one frame forgets what is missed in two."""
    things = [*three(), Thing((40, 5, 55, 20), embedding=tuple(AXES[3]), name=9, hidden=frozenset({4, 5}))]
    parameters = settings_of(name)
    kept, told, forgetful = (tracker(name) for _ in range(3))
    for f in range(7):
        if f == 3:
            told.configure(parameters)
            forgetful.configure(replace(parameters, memory_tau=1.0))
        frame, segmentation, _ = scored(things, f * RATE, f)
        tracks = [track.step(frame, segmentation) for track in (kept, told, forgetful)]
        assert tracks[0] == tracks[1]
        if f == 3:
            assert tracks[2] == tracks[0]
        if f == 5:
            assert {t.track_id for t in tracks[2]} == {t.track_id for t in tracks[0] if t.index >= 0}


@every
def test_frames_until_an_object_is_confirmed_may_change(name):
    track = tracker(name, confirm_hits=2)
    drive(track, three(), 3)
    track.configure(settings_of(name, confirm_hits=5))
    for f, state in ((3, TrackState.TENTATIVE), (4, TrackState.CONFIRMED)):
        frame, segmentation, _ = scored(three(), f * RATE, f)
        assert {t.state for t in track.step(frame, segmentation)} == {state}


@every
def test_reset_forgets_everything_but_ids_go_on(name):
    track = tracker(name)
    drive(track, three(), 3)
    track.reset()
    (again,) = drive(track, three(), 1)
    assert sorted(again.values()) == [4, 5, 6]
    frame, segmentation, _ = scored(three(), RATE)
    tracks = track.step(frame, segmentation)
    assert {t.hits for t in tracks} == {2} and {t.slot for t in tracks} == {0, 1, 2}


@every
def test_frames_without_things_age_the_memory_away(name):
    track = tracker(name, memory_tau=5.0)
    drive(track, three(), 3)
    empty = segmented(BACKGROUND, np.zeros((HEIGHT, WIDTH), int), [])[1]
    counts = [len(track.step(Frame(BACKGROUND, f * RATE), empty)) for f in range(3, 20)]
    assert counts[0] == 3 and counts[-1] == 0
    assert counts == sorted(counts, reverse=True)
    assert track.step(Frame(BACKGROUND, 20 * RATE), empty) == ()
    ids = drive(track, three(), 2)
    assert ids[0] == ids[1] and min(ids[0].values()) == 4


@every
def test_stuff_is_not_tracked(name):
    frame, segmentation, _ = scored(three())
    (only,) = tracker(name).step(frame, replace(segmentation, is_thing=np.array([False, True, False])))
    assert only.index == 1


@every
def test_a_thousand_objects(name):
    """Each in its own place and with its own appearance; every one is told from the others."""
    track = tracker(name)
    side, columns = 4, 50
    looks = np.random.default_rng(7).normal(size=(1000, 64)).astype(np.float32)
    looks *= 6 / np.linalg.norm(looks, axis=1, keepdims=True)
    image = np.random.default_rng(3).integers(0, 255, (20 * side, columns * side, 3), np.uint8)
    known = None
    for f in range(3):
        order = np.random.default_rng(f).permutation(1000)
        y, x = order // columns * side, order % columns * side
        mask = np.zeros(1000, np.uint16)
        mask[order] = np.arange(1, 1001)
        mask = np.kron(mask.reshape(20, columns), np.ones((side, side), np.uint16))
        boxes = np.stack([x, y, x + side, y + side], axis=1).astype(np.float32)
        ones = np.ones(1000, np.float32)
        segmentation = Segmentation(
            mask, np.full(1000, 11, np.int32), ones > 0, ones, np.full(1000, side * side), boxes, looks[order]
        )
        tracks = track.step(Frame(image, f * RATE), segmentation)
        ids = {order[t.index]: t.track_id for t in tracks}
        assert len(tracks) == len(ids) == 1000
        known = known or ids
        assert ids == known


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38, 0.0])
def test_bad_embeddings_change_no_average(name, bad):
    """One object's embedding is bad for a frame; the others keep their ids and every number stays finite."""
    track = tracker(name)
    things = three()
    broken = [replace(things[0], embedding=(bad,) * 8), *things[1:]]
    ids = []
    for f, seen in enumerate([things, things, broken, things, things]):
        frame, segmentation, names = scored(seen, f * RATE)
        tracks = track.step(frame, segmentation)
        ids.append(identities(tracks, names))
        assert all(np.isfinite([*t.box, *t.velocity, t.association_score]).all() for t in tracks)
    assert all(i[3] == ids[0][3] and i[7] == ids[0][7] for i in ids)
    assert ids[3][2] == ids[4][2]


@every
def test_embeddings_may_change_their_length(name):
    """Appearances of two lengths cannot be compared; that is no failure."""
    track, ids = tracker(name), []
    for f, width in enumerate([8, 8, 3, 3]):
        things = [replace(t, embedding=t.embedding[:width]) for t in three()]
        frame, segmentation, names = scored(things, f * RATE)
        ids.append(identities(track.step(frame, segmentation), names))
    assert ids[0] == ids[1] and ids[2] == ids[3]


@every
def test_embeddings_must_be_one_for_each_segment(name):
    frame, segmentation, _ = scored(three())
    with pytest.raises(InputError, match="2 embeddings were given for 3 segments"):
        tracker(name).step(frame, replace(segmentation, embeddings=segmentation.embeddings[:2]))


@every
@pytest.mark.parametrize("embeddings", [None, np.zeros((3, 0), np.float32), np.zeros(3, np.float32)])
def test_things_without_appearance_are_tracked_or_refused_with_what_to_do(name, embeddings):
    track = tracker(name)
    frame, segmentation, names = scored(three())
    bare = replace(segmentation, embeddings=embeddings)
    try:
        first = identities(track.step(frame, bare), names)
    except InputError as error:
        for word in ("--embeddings", "colour histogram", "location"):
            assert word in str(error)
        assert "\n" not in str(error)
        assert identities(track.step(frame, segmentation), names).keys() == {2, 3, 7}, "nothing was half done"
    else:
        assert identities(track.step(replace(frame, stamp=RATE), bare), names) == first


@every
def test_size_and_stamps_may_change_without_a_reset(name):
    track = tracker(name)
    things = three()
    for f in range(3):
        track.step(*scored(things, 10**18 + f)[:2])
    frame, segmentation, names = scored(things, 10**18)
    half = segmented(frame.image[::2, ::2].copy(), segmentation.map[::2, ::2].astype(int), things, 5)
    for frame, segmentation, names in (half, scored(things, 0), scored(things, 10**12)):
        tracks = track.step(frame, segmentation)
        identities(tracks, names)
        assert all(np.isfinite([*t.box, *t.velocity]).all() for t in tracks)


@every
def test_lost_tracks_have_state_lost(name):
    track = tracker(name, confirm_hits=2)
    things = three(hidden=frozenset({3}))
    for f in range(4):
        frame, segmentation, _ = scored(things, f * RATE, f)
        tracks = track.step(frame, segmentation)
        states = {TrackState.TENTATIVE} if f == 0 else {TrackState.CONFIRMED} if f < 3 else {TrackState.LOST}
        assert {t.state for t in tracks} == states
    assert {(t.index, t.segment_id, t.hits) for t in tracks} == {(-1, 0, 3)}


@st.composite
def scenes(draw):
    """A handful of rectangles with whole-pixel motion, hidden now and then; some look alike, some overlap."""
    things = []
    for number in range(draw(st.integers(1, 7))):
        x, y = draw(st.integers(-5, WIDTH - 10)), draw(st.integers(0, HEIGHT - 10))
        width, height = draw(st.sampled_from([(8, 8), (12, 20), (30, 16)]))
        things.append(
            Thing(
                (x, y, x + width, y + height),
                (draw(st.integers(-6, 6)), draw(st.integers(-3, 3))),
                draw(st.sampled_from([11, 13])),
                (float(draw(st.integers(-2, 2))), float(draw(st.integers(-2, 2))), 1.0),
                frozenset(draw(st.sets(st.integers(0, 6), max_size=3))),
                number,
            )
        )
    return things


@every
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_order_of_segments_changes_nothing(name, data):
    """Also no score, no state and no slot of any track, the forgotten ones' numbers included."""
    things = data.draw(scenes())
    one, other = tracker(name), tracker(name)
    for f in range(7):
        order = data.draw(st.permutations(range(len(things))))
        a, b = scored(things, f * RATE, f), scored(things, f * RATE, f, order)
        tracks = [
            [t._replace(index=names[t.index] if t.index >= 0 else -1) for t in track.step(frame, segmentation)]
            for track, (frame, segmentation, names) in ((one, a), (other, b))
        ]
        assert tracks[0] == tracks[1]


@every
@settings(max_examples=15, deadline=None)
@given(st.integers(2, 8), st.permutations(range(8)))
def test_order_does_not_decide_between_equals(name, count, order):
    """Interleaved masks with one box, area, score, class and appearance: only their first pixels differ."""
    mask = np.zeros((HEIGHT, WIDTH), int)
    corner = np.arange(count * count).reshape(count, count)
    mask[10 : 10 + count, 10 : 10 + count] = (corner // count + corner % count) % count + 1
    things = [Thing((0, 0, 1, 1), embedding=(1.0, 2.0), name=n) for n in range(count)]

    def ids(order):
        track, found = tracker(name), []
        for f in range(3):
            frame, segmentation, names = segmented(BACKGROUND, mask, things, f * RATE, order if f else None)
            segmentation.scores[:] = 1
            found.append(identities(track.step(frame, segmentation), names))
        return found

    assert ids(None) == ids(order)


@every
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_ids_and_slots_are_never_shared_or_reused(name, data):
    """`identities` checks that segments, slots and ids are not shared within a frame."""
    track = tracker(name)
    gone: set[int] = set()
    last: set[int] = set()
    owner: dict[int, int] = {}
    for _ in range(2):
        things = data.draw(scenes())
        for f in range(6):
            frame, segmentation, names = scored(things, f * RATE, f)
            tracks = track.step(frame, segmentation)
            identities(tracks, names)
            now = {t.track_id for t in tracks}
            gone |= last - now
            assert not now & gone
            assert [t.track_id for t in tracks] == sorted(now)
            for t in tracks:
                assert owner.setdefault(t.track_id, t.slot) == t.slot
            last = now
        track.reset()
        gone |= last
        last = set()


@every
def test_memory_is_bounded_by_tau(name):
    """Objects that come and go for ever: what is remembered depends on tau, not on how long the run was."""
    track = tracker(name, memory_tau=5.0)
    rng = np.random.default_rng(0)
    most = 0
    for f in range(600):
        x, y = rng.integers(0, WIDTH - 8), rng.integers(0, HEIGHT - 8)
        number = f // 4
        thing = Thing((x, y, x + 8, y + 8), class_id=11 + number % 8, embedding=tuple(AXES[number % 8]))
        tracks = track.step(*render([] if f % 4 else [thing], f * RATE)[:2])
        most = max(most, len(tracks), *(t.slot + 1 for t in tracks))
    assert most <= 6
    assert track.step(*render(three(), 600 * RATE)[:2])[-1].track_id > 100
