"""One frame in, one panoptic frame out: identities, ids of segments, sequences."""

from dataclasses import replace

import numpy as np
import pytest

from support.worlds import CAR_ID, ROAD_ID, SKY_ID, colour_model, picture
from vps_ros import Config, DroppedFrame, Frame, InputError, OnlinePanoptic
from vps_ros.frame import THING_BASE

TENTH = 100_000_000


@pytest.fixture
def pipeline(tmp_path):
    return OnlinePanoptic(Config(model=str(colour_model(tmp_path / "colours.onnx"))))


def things(result):
    return {s.track_id: s for s in result.segments if s.is_thing}


def test_every_pixel_gets_its_class_and_every_square_its_id(pipeline):
    image = picture({0: (8, 40), 1: (56, 40)})
    result = pipeline.step(Frame(image, 7 * TENTH, "camera"))
    assert (result.stamp, result.frame_id, result.sequence_id) == (7 * TENTH, "camera", 0)
    assert result.map.dtype == np.uint16
    assert result.map.shape == (64, 96)
    assert result.map[5, 50] == 1 + SKY_ID
    assert result.map[60, 40] == 1 + ROAD_ID
    left, right = result.map[48, 16], result.map[48, 64]
    assert {left, right} == {THING_BASE, THING_BASE + 1}
    assert {s.class_id for s in things(result).values()} == {CAR_ID}
    for segment in result.segments:
        assert segment.area == np.count_nonzero(result.map == segment.segment_id)
    assert set(result.milliseconds) == {"segment", "flow", "track", "other"}


@pytest.mark.parametrize("value", [np.zeros((64, 96, 3), np.uint8), None])
def test_an_array_in_place_of_a_frame_is_refused(pipeline, value):
    with pytest.raises(InputError, match=r"give vps_ros.Frame\(image, stamp\)"):
        pipeline.step(value)


@pytest.mark.parametrize("value", ["streets-s", {"model": "streets-s"}, 3])
def test_what_is_no_config_is_refused(value):
    with pytest.raises(InputError, match=rf"config: is a {type(value).__name__}; give vps_ros.Config\(\.\.\.\)"):
        OnlinePanoptic(value)


def test_a_moving_square_keeps_its_id_and_tells_its_velocity(pipeline):
    for i in range(6):
        result = pipeline.step(Frame(picture({0: (4 + 8 * i, 40)}), i * TENTH))
    (track,) = [t for t in result.tracks if t.index >= 0]
    assert track.hits == 6
    assert (track.first_seen, track.last_seen) == (0, 5 * TENTH)
    assert track.velocity[0] == pytest.approx(80, rel=0.25)
    assert track.velocity[1] == pytest.approx(0, abs=5)


def test_a_hidden_square_comes_back_with_its_id_and_slot(pipeline):
    for i in range(12):
        squares = {1: (70, 40)} if 4 <= i < 7 else {0: (4 + 4 * i, 40), 1: (70, 40)}
        result = pipeline.step(Frame(picture(squares), i * TENTH))
        if i == 0:
            before = things(result)
    assert things(result).keys() == before.keys()
    for track_id, segment in things(result).items():
        assert segment.segment_id == before[track_id].segment_id


def test_time_that_jumps_back_starts_a_sequence_with_new_ids(pipeline):
    first = pipeline.step(Frame(picture({0: (8, 40)}), 5 * TENTH))
    second = pipeline.step(Frame(picture({0: (8, 40)}), 1 * TENTH))
    assert (first.sequence_id, second.sequence_id) == (0, 1)
    assert not things(first).keys() & things(second).keys()


def test_a_new_size_starts_a_sequence(pipeline):
    pipeline.step(Frame(picture({0: (8, 40)}), 0))
    result = pipeline.step(Frame(picture({0: (8, 40)}, size=(192, 128), side=32), TENTH))
    assert result.sequence_id == 1
    assert result.map.shape == (128, 192)


def test_reset_forgets_but_uses_no_id_twice(pipeline):
    first = pipeline.step(Frame(picture({0: (8, 40)}), 0))
    pipeline.reset()
    second = pipeline.step(Frame(picture({0: (8, 40)}), TENTH))
    assert second.sequence_id == 1
    assert max(things(first)) < min(things(second))


@pytest.mark.parametrize(
    "image",
    [np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
    ids=["empty", "grey", "float"],
)
def test_an_image_that_is_none_is_dropped_and_tracks_stay(pipeline, image):
    before = pipeline.step(Frame(picture({0: (8, 40)}), 0))
    with pytest.raises(DroppedFrame, match="give uint8"):
        pipeline.step(Frame(image, TENTH))
    after = pipeline.step(Frame(picture({0: (8, 40)}), 2 * TENTH))
    assert after.sequence_id == 0
    assert things(after).keys() == things(before).keys()


def test_an_empty_world_ages_the_memory_away(pipeline):
    pipeline.step(Frame(picture({0: (8, 40)}), 0))
    for i in range(1, int(Config().memory_tau) + 3):
        result = pipeline.step(Frame(picture({}), i * TENTH))
    assert result.tracks == ()
    assert not things(result)


def test_the_same_frames_give_the_same_result(tmp_path):
    model = str(colour_model(tmp_path / "colours.onnx"))
    frames = [Frame(picture({0: (4 + 5 * i, 40), 2: (80 - 6 * i, 36)}), i * TENTH) for i in range(8)]
    once, twice = (list(map(OnlinePanoptic(Config(model=model)).step, frames)) for _ in range(2))
    for a, b in zip(once, twice, strict=True):
        assert np.array_equal(a.map, b.map)
        assert a.tracks == b.tracks
        assert a.segments == b.segments


def test_parameters_change_between_frames_and_no_object_is_lost(pipeline):
    squares = {0: (8, 40), 1: (56, 40)}
    first = pipeline.step(Frame(picture(squares), 0))
    pipeline.configure(replace(pipeline.config, thing_threshold=1.0))
    without = pipeline.step(Frame(picture(squares), TENTH))
    assert things(first) and not things(without)
    pipeline.configure(replace(pipeline.config, thing_threshold=-1.0))
    again = pipeline.step(Frame(picture(squares), 2 * TENTH))
    assert things(again).keys() == things(first).keys()
    pipeline.configure(replace(pipeline.config, memory_tau=2.0, memory_unit="seconds"))
    soon = pipeline.step(Frame(picture(squares), 20 * TENTH))
    late = pipeline.step(Frame(picture(squares), 41 * TENTH))
    assert (soon.sequence_id, late.sequence_id) == (0, 1)
