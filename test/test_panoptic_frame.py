"""What a result says of masks, boxes, classes and objects; answers worked out by hand."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vps_ros import InputError, PanopticFrame, Segment, Taxonomy, Track, draw
from vps_ros.frame import AssociatedBy, TrackState
from vps_ros.taxonomy import CITYSCAPES

ROAD, CAR, PERSON = 0, 13, 11


def track(track_id, slot, index, box, class_id=CAR, score=0.75):
    state = TrackState.CONFIRMED if index >= 0 else TrackState.LOST
    return Track(track_id, slot, index, class_id, score, state, AssociatedBy.PIXELS, 0.5, box, (0.0, 0.0), 4, 0, 9, 3)


def result(taxonomy=CITYSCAPES):
    """Void left, road right, a car and a person on it; a second car is hidden."""
    pixels = np.array([[0, 1, 1, 1002], [0, 1, 1000, 1002], [0, 1, 1000, 1]], np.uint16)
    segments = (
        Segment(1, ROAD, False, 1.0, 5, 0),
        Segment(1002, CAR, True, 0.75, 2, 41),
        Segment(1000, PERSON, True, 0.5, 2, 7),
    )
    tracks = (
        track(7, 0, 2, (2.0, 1.0, 3.0, 3.0), PERSON, 0.5),
        track(9, 1, -1, (0.0, 0.0, 2.0, 2.0)),
        track(41, 2, 1, (3.0, 0.0, 4.0, 2.0)),
    )
    return PanopticFrame(9, "camera", 0, pixels, segments, tracks, taxonomy)


def test_visible_objects_and_their_boxes():
    assert [t.track_id for t in result().visible] == [7, 41]
    boxes = result().boxes()
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[2, 1, 3, 3], [3, 0, 4, 2]]


def test_masks_of_objects_and_stuff():
    frame = result()
    person, hidden, car = frame.tracks
    assert frame.mask(person).dtype == bool
    assert frame.mask(person).tolist() == [[False] * 4, [False, False, True, False], [False, False, True, False]]
    assert np.argwhere(frame.mask(car)).tolist() == [[0, 3], [1, 3]]
    assert not frame.mask(hidden).any()
    assert frame.mask(hidden).shape == (3, 4)
    assert frame.mask(frame.segments[0]).sum() == 5


def test_a_track_of_another_frame_is_found_by_its_id():
    frame = result()
    before = frame.tracks[2]._replace(slot=0)
    assert np.array_equal(frame.mask(before), frame.mask(frame.tracks[2]))
    assert not frame.mask(before._replace(track_id=1000)).any()


def test_maps_of_classes_and_objects():
    assert result().class_map.dtype == np.uint8
    assert result().class_map.tolist() == [[255, 0, 0, 13], [255, 0, 11, 13], [255, 0, 11, 0]]
    assert result().track_map.dtype == np.uint32
    assert result().track_map.tolist() == [[0, 0, 0, 41], [0, 0, 7, 41], [0, 0, 7, 0]]


def test_a_frame_of_void_alone():
    empty = PanopticFrame(0, "", 0, np.zeros((2, 3), np.uint16), (), ())
    assert empty.visible == ()
    assert empty.boxes().shape == (0, 4)
    assert (empty.class_map == 255).all()
    assert not empty.track_map.any()


def test_a_class_that_does_not_fit_beside_void_is_refused():
    one = PanopticFrame(0, "", 0, np.full((1, 1), 256, np.uint16), (Segment(256, 255, False, 1.0, 1, 0),), ())
    with pytest.raises(InputError, match="class 255"):
        one.class_map  # noqa: B018


def test_names_of_classes():
    frame = result()
    assert [frame.taxonomy.class_name(t.class_id) for t in frame.visible] == ["person", "car"]
    assert CITYSCAPES.class_name(77) == "77"


def test_taxonomies_of_names():
    listed = Taxonomy.from_names(["road", "car"], stuff=["road"])
    assert [(c.id, c.name, c.isthing) for c in listed.classes] == [(0, "road", False), (1, "car", True)]
    assert len({c.color for c in Taxonomy.from_names([f"c{i}" for i in range(80)]).classes}) == 80
    assert Taxonomy.from_names({3: "cat", 5: "dog"}).ids.tolist() == [3, 5]
    for names, stuff in ((["road"], ["sky"]), ({-1: "road"}, []), ({1000: "road"}, [])):
        with pytest.raises(InputError, match="taxonomy"):
            Taxonomy.from_names(names, stuff)


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_masks_cover_the_segments_and_agree_with_the_maps(data):
    """Of any map: masks do not overlap, cover all but void, and say what the maps say."""
    count = data.draw(st.integers(0, 5))
    segments = tuple(Segment(1000 + i, 11 + i % 8, True, 1.0, 1, i + 1) for i in range(count))
    values = data.draw(st.lists(st.sampled_from([0, *(s.segment_id for s in segments)]), min_size=12, max_size=12))
    pixels = np.array(values, np.uint16).reshape(3, 4)
    tracks = tuple(track(i + 1, i, i, (0.0, 0.0, 1.0, 1.0), s.class_id) for i, s in enumerate(segments))
    frame = PanopticFrame(0, "", 0, pixels, segments, tracks, CITYSCAPES)
    masks = [frame.mask(t) for t in frame.visible]
    assert np.array_equal(sum(masks, np.zeros((3, 4), int)), (pixels > 0).astype(int))
    for t, mask in zip(frame.visible, masks, strict=True):
        assert (frame.track_map[mask] == t.track_id).all()
        assert (frame.class_map[mask] == t.class_id).all()


def test_detections_of_supervision():
    pytest.importorskip("supervision")
    found = result().to_supervision()
    assert found.xyxy.tolist() == [[2, 1, 3, 3], [3, 0, 4, 2]]
    assert found.tracker_id.tolist() == [7, 41]
    assert found.class_id.tolist() == [PERSON, CAR]
    assert found.confidence.tolist() == [0.5, 0.75]
    assert found.data["class_name"].tolist() == ["person", "car"]
    assert found.mask.dtype == bool
    assert np.array_equal(found.mask[1], result().mask(result().tracks[2]))
    empty = PanopticFrame(0, "", 0, np.zeros((2, 3), np.uint16), (), ()).to_supervision()
    assert len(empty) == 0
    # Its own tools take them: rows are chosen by a condition, and masks are merged with boxes.
    assert found[found.class_id == CAR].tracker_id.tolist() == [41]


def test_without_supervision_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        result().to_supervision()


def test_draw_gives_the_picture_and_its_time():
    image = np.full((3, 4, 3), 100, np.uint8)
    drawn = draw(image, result(), labels=False, lost=False)
    assert (drawn.dtype, drawn.shape, drawn.stamp) == (np.uint8, (3, 4, 3), 9)
    assert (drawn[:, 0] == 100).all(), "void stays as it is"
    assert drawn[0, 1].tolist() == [114, 82, 114], "half grey, half the colour of road, 128 64 128"
    assert (image == 100).all()
    assert drawn[::2].stamp == 9, "a part of it"
    assert type(drawn + 1) is np.ndarray, "what is computed of it is a plain array"
    assert type(drawn.max()) is np.uint8
    with pytest.raises(InputError, match="draw"):
        draw(image[:2], result())
