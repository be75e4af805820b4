"""Edits of labels: known answers, undo, and that no segment is lost or counted twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps_ros.errors import InputError
from vps_ros.labelling.edits import (
    Accept,
    Classify,
    ClassifyStuff,
    Confirm,
    Delete,
    Layer,
    LayerFrame,
    Merge,
    Redo,
    SegmentRow,
    Split,
    Swap,
    Undo,
    UseLayer,
    apply,
    history,
    read_edit,
    state_of,
    to_json,
)
from vps_ros.labelling.uncertainty import uncertainties
from vps_ros.taxonomy import CITYSCAPES

PERSON, CAR, BUS = 11, 13, 15


def row(number, class_id=CAR, x=0, area=100, score=0.9, agreement=None):
    return SegmentRow(number, class_id, area, (x, 0, x + 10, 10), score, agreement)


def layer(frames, name="0000-sparse", kind="sparse"):
    return Layer(name, kind, {f: LayerFrame(tuple(rows)) for f, rows in frames.items()})


# Cars 1 and 2 in four frames; car 3 appears where car 2 has vanished.
LAYERS = {"0000-sparse": layer({0: [row(1), row(2, x=50)], 10: [row(1), row(2, x=52)], 20: [row(1), row(3, x=54)],
                                30: [row(1), row(3, x=56)]})}  # fmt: skip
LAYERS["0001-dense"] = layer({5: [row(1), row(2, x=51)], 15: [row(1), row(7, PERSON)]}, "0001-dense", "dense")
START = UseLayer("0000-sparse")


def tracks(*edits):
    state = state_of([START, *edits], LAYERS, CITYSCAPES)
    return {n: (t.class_id, t.accepted, dict(t.segments)) for n, t in state.tracks.items()}


def test_a_layer_gives_tracks_by_its_ids():
    assert tracks() == {
        1: (CAR, False, {0: (1,), 10: (1,), 20: (1,), 30: (1,)}),
        2: (CAR, False, {0: (2,), 10: (2,)}),
        3: (CAR, False, {20: (3,), 30: (3,)}),
    }


def test_merge_joins_two_tracks():
    assert tracks(Merge(2, 3))[2] == (CAR, False, {0: (2,), 10: (2,), 20: (3,), 30: (3,)})
    assert 3 not in tracks(Merge(2, 3))
    # Two segments of one object in a frame, as where a pole divides it.
    assert tracks(Merge(1, 2))[1][2][10] == (1, 2)


def test_split_makes_a_new_track_with_the_next_id():
    found = tracks(Split(1, 20))
    assert found[1][2] == {0: (1,), 10: (1,)}
    assert found[4] == (CAR, False, {20: (1,), 30: (1,)})


def test_swap_exchanges_what_follows():
    found = tracks(Swap(1, 3, 30))
    assert found[1][2] == {0: (1,), 10: (1,), 20: (1,), 30: (3,)}
    assert found[3][2] == {20: (3,), 30: (1,)}


def test_classify_delete_and_accept():
    assert tracks(Classify(1, BUS))[1][0] == BUS
    assert tracks(Delete(1, 10, 20))[1][2] == {0: (1,), 30: (1,)}
    assert 2 not in tracks(Delete(2))
    assert tracks(Accept(1))[1][1] is True
    assert tracks(Accept(1), Accept(1, False))[1][1] is False
    # What was accepted is no longer there.
    assert tracks(Accept(1), Split(1, 20))[1][1] is False


def test_undo_and_redo():
    assert tracks(Merge(2, 3), Undo()) == tracks()
    assert tracks(Merge(2, 3), Undo(), Redo()) == tracks(Merge(2, 3))
    assert history([START, Merge(2, 3), Undo(), Accept(1)])[0] == [START, Accept(1)]
    with pytest.raises(InputError, match="no edit was undone"):
        history([START, Merge(2, 3), Undo(), Accept(1), Redo()])
    with pytest.raises(InputError, match="there is no edit to undo"):
        history([START, Undo()])


def test_a_dense_layer_adds_frames_and_keeps_what_was_accepted():
    state = state_of([START, Accept(1), UseLayer("0001-dense")], LAYERS, CITYSCAPES)
    assert state.layers[5] == "0001-dense"
    assert state.tracks[1].accepted
    assert sorted(state.tracks[1].segments) == [0, 5, 10, 15, 20, 30]
    assert state.tracks[7].class_id == PERSON
    assert state.next_id == 8
    assert state.sources == {0, 10, 20, 30}


def test_confirmed_frames_are_propagated_from():
    edits = [START, UseLayer("0001-dense"), Confirm(5)]
    assert state_of(edits, LAYERS, CITYSCAPES).sources == {0, 5, 10, 20, 30}
    assert state_of([*edits, Confirm(5, False)], LAYERS, CITYSCAPES).sources == {0, 10, 20, 30}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Merge(1, 1), "track 1 with itself"),
        (Merge(1, 9), "no track 9"),
        (Split(1, 0), "no segment on one side"),
        (Swap(1, 2, 40), "nothing to exchange"),
        (Classify(1, 0), "class 0 is no thing"),
        (ClassifyStuff(0, 1, 1, CAR), "class 13 is no stuff"),
        (ClassifyStuff(5, 1, 1, 0), "frame 5 has no masks"),
        (Delete(1, 40, 50), "not seen in frames 40..50"),
        (Confirm(5), "frame 5 has no masks"),
        (UseLayer("x"), "no such folder"),
    ],
)
def test_edits_that_are_not_possible(edit, message):
    with pytest.raises(InputError, match=message):
        apply(state_of([START], LAYERS, CITYSCAPES), edit, LAYERS, CITYSCAPES)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "`op`"),
        ({"op": "explode"}, "unknown op"),
        ({"op": "merge", "into": 1}, "lacks 'track'"),
        ({"op": "merge", "into": 1, "track": "2"}, "not of type int"),
        ({"op": "merge", "into": 1, "track": True}, "not of type int"),
        ({"op": "accept", "track": 1, "extra": 1}, "unknown entry 'extra'"),
    ],
)
def test_json_that_is_no_edit(value, message):
    with pytest.raises(InputError, match=message):
        read_edit(value)


EDITS = st.one_of(
    st.builds(Merge, st.integers(1, 6), st.integers(1, 6)),
    st.builds(Split, st.integers(1, 6), st.sampled_from([10, 20, 30])),
    st.builds(Swap, st.integers(1, 6), st.integers(1, 6), st.sampled_from([0, 10, 20, 30])),
    st.builds(Classify, st.integers(1, 6), st.sampled_from([PERSON, CAR, BUS])),
    st.builds(ClassifyStuff, st.sampled_from([0, 10]), st.integers(0, 9), st.integers(0, 9), st.sampled_from([0, 10])),
    st.builds(Accept, st.integers(1, 6), st.booleans()),
)


@given(st.lists(EDITS, max_size=12))
def test_edits_lose_no_segment_and_are_undone_one_by_one(edits):
    state = state_of([START], LAYERS, CITYSCAPES)
    states, done = [state], []
    for edit in edits:
        try:
            state = apply(state, edit, LAYERS, CITYSCAPES)
        except InputError:
            continue
        assert read_edit(to_json(edit)) == edit
        states.append(state)
        done.append(edit)
        owned = sorted((f, i) for t in state.tracks.values() for f, ids in t.segments.items() for i in ids)
        assert owned == [(0, 1), (0, 2), (10, 1), (10, 2), (20, 1), (20, 3), (30, 1), (30, 3)]
    for undone in range(len(done) + 1):
        log = [START, *done, *[Undo()] * undone]
        assert state_of(log, LAYERS, CITYSCAPES) == states[len(done) - undone]


def reasons(frames, *edits):
    layers = {"0000-sparse": layer(frames)}
    state = state_of([START, *edits], layers, CITYSCAPES)
    rows = {f: {r.id: r for r in content.segments} for f, content in layers["0000-sparse"].frames.items()}
    found = uncertainties(state, rows)
    return {n: [(r.kind, r.frame, r.other) for r in u.reasons] for n, u in found.items()}, found


def test_uncertain_tracks_have_reasons():
    found, values = reasons({
        0: [row(1), row(2, x=100), row(4, x=300, score=0.3), row(6, x=500)],
        10: [row(1), row(2, x=101), row(4, x=300), row(6, x=500, area=300)],
        20: [row(1), row(3, x=102), row(5, PERSON, x=400), row(6, x=500, agreement=0.2)],
        30: [row(1), row(3, x=103), row(4, x=300), row(6, BUS, x=500), ],
    })  # fmt: skip
    assert found[1] == []
    assert values[1].value == 0
    assert found[2] == [("switch", 10, 3)]
    assert found[3] == [("switch", 20, 2)]
    assert found[4] == [("score", 0, 0), ("gap", 10, 0)]
    assert found[5] == [("short", 20, 0)]
    assert found[6] == [("disagreement", 20, 0), ("flicker", 10, 0), ("flicker", 20, 0)]
    assert values[4].value == pytest.approx(1 - (1 - 0.56) * (1 - 0.3))


def test_the_class_of_most_frames_is_expected():
    found, _ = reasons({0: [row(1)], 10: [row(1, BUS)], 20: [row(1, BUS)]})
    assert found[1] == [("class", 10, 0)]
    assert reasons({0: [row(1)], 10: [row(1, BUS)], 20: [row(1, BUS)]}, Classify(1, BUS))[0][1] == [("class", 0, 0)]
