"""What the hierarchical tracker is made of: the camera's motion, what looks are worth, evidence, and its judge."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trackers_scene import HEIGHT, RATE, WIDTH, Thing, identities, segmented, shot, texture

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.flow import DisFlow, FlowHistory
from vps_ros.frame import AssociatedBy, Frame
from vps_ros.online import describe
from vps_ros.trackers import make_tracker
from vps_ros.trackers.camera import camera_motion
from vps_ros.trackers.evidence import COLUMNS, compare
from vps_ros.trackers.judge import ARRAYS, RIVALS, SECOND, Judge, read, rivals, shipped, write
from vps_ros.trackers.looks import Looks
from vps_ros.trackers.objects import ObjectMemory
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.things import Things

# The camera's motion


def flow_of(motion, height=96, width=160):
    """Backward flow of a scene that moves as a whole by (x, y, 1) @ motion, in widths of the image."""
    y, x = np.mgrid[:height, :width].astype(float)
    place = np.stack([x, y], -1) / width
    a, b = motion[:2], motion[2]
    # new = old + old A + b, so old = (new - b) (1 + A)^-1.
    old = (place - b) @ np.linalg.inv(np.eye(2) + a)
    return ((old - place) * width).astype(np.float32)


@settings(deadline=None)
@given(st.lists(st.floats(-0.05, 0.05), min_size=6, max_size=6))
def test_camera_motion_of_a_moving_plane_is_found(numbers):
    motion = np.array(numbers).reshape(3, 2)
    found = camera_motion(flow_of(motion), np.ones((96, 160), bool))
    np.testing.assert_allclose(found, motion, atol=1e-5)


def test_camera_motion_ignores_what_moves_by_itself():
    motion = np.array([[0.01, 0], [0, 0.01], [0.03, -0.01]])
    flow = flow_of(motion)
    flow[30:60, 20:70] += 9
    np.testing.assert_allclose(camera_motion(flow, np.ones((96, 160), bool)), motion, atol=1e-3)


def test_camera_motion_says_nothing_without_background():
    assert camera_motion(flow_of(np.zeros((3, 2))), np.zeros((96, 160), bool)) is None


# Looks


def unit(*angles):
    return np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)


def taught(same, different, rounds=400):
    """Looks of one object that turns by `same` radians between sightings, beside another `different` radians away."""
    looks, classes = Looks(1.0), np.zeros(2, np.int64)
    looks.make_room(0, 2)
    looks.add(2)
    for i in range(rounds):
        turn = same * (i % 2)
        units = unit(turn, different + turn)
        looks.differ(units, classes)
        looks.see(np.arange(2), units)
    return looks


def test_looks_that_tell_objects_apart_count():
    looks = taught(0.1, 1.4)
    assert looks.ratio(np.array([np.cos(0.1)])) > 2
    assert looks.ratio(np.array([np.cos(1.4)])) == -6


def test_looks_that_tell_nothing_apart_say_nothing():
    """Two objects as alike as each is to itself: whatever the cosine, neither is likelier by much."""
    looks = taught(0.3, 0.3)
    assert abs(looks.ratio(np.array([np.cos(0.3)]))) < 2


def test_more_alike_than_usual_is_no_reason_to_doubt():
    looks = taught(0.5, 1.5)
    assert looks.ratio(np.array([1.0])) >= looks.ratio(np.array([np.cos(0.5)]))


def test_unknown_looks_stay_until_known_and_known_ones_through_unknown():
    looks = Looks(0.5)
    looks.make_room(0, 2)
    looks.add(1)
    looks.see(np.array([0]), np.zeros((1, 2), np.float32))
    assert not looks.vectors.any()
    looks.see(np.array([0]), unit(0.5))
    looks.see(np.array([0]), np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(looks.vectors, unit(0.5), atol=1e-6)
    looks.see(np.array([0]), unit(0.9))
    np.testing.assert_allclose(looks.vectors, unit(0.7), atol=1e-6)


def test_looks_of_different_classes_are_not_compared():
    looks = Looks(0.3)
    before = looks.ratio(np.linspace(-1, 1, 9))
    looks.differ(unit(0, 1), np.array([11, 13]))
    np.testing.assert_array_equal(looks.ratio(np.linspace(-1, 1, 9)), before)


# The judge


def by_hand(**changed):
    """A judge that takes the first column for log-odds, and in its second look takes off half the object's rivals."""
    f = len(COLUMNS)
    arrays = {
        "mean": np.zeros(f),
        "scale": np.ones(f),
        "hidden": np.eye(1, f),
        "hidden_bias": np.zeros(1),
        "out": np.ones(1),
        "out_bias": np.zeros(()),
        "again": np.eye(1, f + RIVALS, f + 1),
        "again_bias": np.zeros(1),
        "again_out": np.array([-1.5]),
        "again_out_bias": np.zeros(()),
    }
    return Judge(**{name: np.asarray(v, np.float32) for name, v in {**arrays, **changed}.items()})


def test_rivals_of_a_pair_are_the_others_of_its_group():
    found = rivals(np.array([0.0, 1.0, 2.0, 5.0]), np.array([3, 3, 3, 0]))
    e = np.exp
    np.testing.assert_allclose(found, np.log([1 + e(1) + e(2), 2 + e(2), 2 + e(1), 1]))


def test_second_look_knows_the_rivals():
    columns = np.zeros((3, len(COLUMNS)), np.float32)
    columns[:, 0] = 2, 1, 1
    odds = by_hand()(columns, np.array([0, 0, 1]), np.array([0, 1, 2]))
    expected = [2 - 0.5 * np.log(1 + np.e), 1 - 0.5 * np.log(1 + np.exp(2)), 1]
    np.testing.assert_allclose(odds, expected, rtol=1e-6)


def test_judge_is_written_and_read(tmp_path):
    judge = replace(by_hand(out_bias=0.5), about={"format": 1, "columns": COLUMNS})
    write(tmp_path / "judge.npz", judge)
    again = read(tmp_path / "judge.npz")
    for name in (*ARRAYS, *SECOND):
        np.testing.assert_array_equal(getattr(again, name), getattr(judge, name))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden": np.ones((1, 3))}, "'hidden' is"),
        ({"out": np.array([np.nan])}, "not finite"),
        ({"about": {"format": 1, "columns": ["other"]}}, "other evidence"),
        ({"about": {"format": 99, "columns": COLUMNS}}, "other evidence"),
    ],
)
def test_judge_that_does_not_fit_is_refused(tmp_path, change, says):
    judge = replace(by_hand(), **{"about": {"format": 1, "columns": COLUMNS}, **change})
    write(tmp_path / "judge.npz", judge)
    with pytest.raises(InputError, match=says):
        read(tmp_path / "judge.npz")


def test_judge_that_is_no_file_of_ours_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "judge.npz")
    (tmp_path / "judge.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="not weights"):
        read(tmp_path / "judge.npz")


def test_shipped_judge_believes_what_meets_and_not_what_is_far():
    """One object, one thing: all evidence for it; none of it."""
    columns = dict.fromkeys(COLUMNS, 0.0)
    same = {
        "flow_dice",
        "motion_dice",
        "containment",
        "dice_2",
        "containment_2",
        "latest_dice",
        "box_iou",
        "colour_cosine",
    }
    alike = {**columns, **dict.fromkeys(same, 0.95), "class_share": 1, "same_class": 1, "gap_is_1": 1, "hits": 1}
    alike |= {"log_seconds": np.log(0.1), "colour_ratio": 3, "embedding_ratio": 3, "area": 1.2}
    apart = {**columns, "distance": 2.5, "distance_per_gap": 2.5, "nearer_side_x": 2, "nearer_side_y": 2, "gap_is_1": 1}
    apart |= {
        "height_ratio": 1.5,
        "width_ratio": 1.5,
        "colour_ratio": -5,
        "embedding_ratio": -5,
        "hits": 1,
        "area": 1.2,
    }
    for given_, likely in ((alike, True), (apart, False)):
        row = np.array([[given_[name] for name in COLUMNS]], np.float32)
        assert (shipped()(row, np.array([0]), np.array([0]))[0] > 0) == likely


# Evidence


def test_evidence_of_a_thing_that_stood_still():
    memory = ObjectMemory(0.3, 0.5)
    pixels = PixelHistory(FlowHistory(DisFlow()))
    things = [Thing((40, 20, 60, 40), name=1)]
    for i in range(2):
        frame, segmentation, _ = shot(things, i * RATE)
        seen = Things.of(segmentation)
        pixels.push(frame, segmentation, seen)
        memory.move(None, 0.1 * i, seen, np.ones((1, 4), np.float32) / 2)
        if i == 0:
            rows = memory.add(seen, np.array([0]), np.array([7]), np.array([0]), 0, 1)
            pixels.remember(np.array([7]))
    pairs = compare(memory, pixels, seen, rows, np.array([0]), RATE)
    assert (pairs.m.tolist(), pairs.k.tolist(), pairs.by_pixels.tolist()) == ([0], [0], [True])
    found = dict(zip(COLUMNS, pairs.columns[0].tolist(), strict=True))
    ones = {
        "flow_dice",
        "motion_dice",
        "containment",
        "latest_dice",
        "gap_is_1",
        "class_share",
        "same_class",
        "box_iou",
    }
    ones |= {"colour_cosine"}
    for name, value in found.items():
        if name in ones:
            assert value == pytest.approx(1, abs=0.02), name
        elif name not in ("hits", "area", "colour_ratio", "log_seconds"):
            assert value == pytest.approx(0, abs=1e-6), name
    assert found["log_seconds"] == pytest.approx(np.log(0.1))
    assert found["hits"] == pytest.approx(1 / 5)
    assert found["area"] == pytest.approx(0.2 * np.log1p(400 * (640 / WIDTH) ** 2))


def test_hidden_object_moves_with_the_camera():
    """Its place follows the background although nobody sees it; its own drift goes on."""
    memory = ObjectMemory(0.3, 0.5)
    frame, segmentation, _ = shot([Thing((40, 20, 60, 40), name=1)])
    seen = Things.of(segmentation)
    memory.move(None, 0.0, seen, np.ones((1, 4), np.float32) / 2)
    memory.add(seen, np.array([0]), np.array([1]), np.array([0]), 0, 1)
    nothing = Things.of(shot([], RATE)[1])
    right = np.array([[0, 0], [0, 0], [10 / WIDTH, 0]])
    for _ in range(3):
        memory.move(right, 0.1, nothing, np.empty((0, 4), np.float32))
    np.testing.assert_allclose(memory.predict(0, np.array([0]))[0], np.array([70, 20, 90, 40]) / ([WIDTH, HEIGHT] * 2))


@pytest.mark.parametrize("step", [0, 1, -RATE // 2])
def test_a_stamp_that_stands_still_or_goes_back_changes_no_motion(step):
    """4 px a frame; the fifth image comes with the stamp of the fourth, or all but. Then it is hidden and goes on."""
    track = make_tracker(Config())
    for i, stamp in enumerate((0, RATE, 2 * RATE, 3 * RATE, 3 * RATE + step)):
        frame, segmentation, _ = shot([Thing((10 + 4 * i, 20, 30 + 4 * i, 45), name=1)])
        track.step(replace(frame, stamp=stamp), segmentation)
    frame, segmentation, _ = shot([])
    (lost,) = track.step(replace(frame, stamp=4 * RATE), segmentation)
    assert lost.index == -1 and lost.box[0] == pytest.approx(30, abs=4)


def test_an_image_that_comes_late_throws_nobody_off_the_path():
    """4 px and 0.1 s a frame; the fifth image has a stamp 2 ms before the sixth's. Then it is hidden for two frames."""
    track = make_tracker(Config())
    for i, milliseconds in enumerate((0, 100, 200, 300, 398, 400, 500, 600, 700)):
        things = [] if i in (6, 7) else [Thing((10 + 4 * i, 20, 30 + 4 * i, 45), name=1)]
        frame, segmentation, _ = shot(things)
        (only,) = track.step(replace(frame, stamp=milliseconds * 1_000_000), segmentation)
        assert only.track_id == 1 and only.box[0] == pytest.approx(10 + 4 * i, abs=3)


def test_motion_is_learned_at_once_also_after_a_pause():
    """Two frames 3 s apart: what appears then is followed as ever."""
    track = make_tracker(Config())
    for i, stamp in enumerate((0, 1, 2, 32, 33, 34)):
        things = [Thing((90, 50, 120, 70), name=2)]
        if i > 3:
            things.append(Thing((10 + 4 * i, 20, 30 + 4 * i, 45), name=1))
        track.step(*shot(things, stamp * RATE)[:2])
    lost = {t.slot: t.box[0] for t in track.step(*shot([], 35 * RATE)[:2])}
    assert lost == {0: pytest.approx(90, abs=1), 1: pytest.approx(34, abs=2)}


# What users see


def test_class_of_a_track_is_what_most_of_its_sightings_say():
    """A car that is called a truck for one frame stays a car, in the track and in the map; in the end it is a truck."""
    track, car = make_tracker(Config()), Thing((40, 20, 70, 45), class_id=13, name=1)
    told = []
    for i, class_id in enumerate([13, 13, 13, 14, 13] + [14] * 12):
        frame, segmentation, names = shot([replace(car, class_id=class_id)], i * RATE)
        tracks = track.step(frame, segmentation)
        assert identities(tracks, names) == {1: 1}
        assert describe(segmentation, tracks)[0].class_id == tracks[0].class_id
        told.append(tracks[0].class_id)
    assert told[:5] == [13] * 5
    assert told[-1] == 14


def test_where_pixels_meet_says_pixels_and_else_memory():
    track, thing = make_tracker(Config()), Thing((20, 20, 50, 45), name=1)
    for i in range(4):
        frame, segmentation, _ = shot([thing], i * RATE)
        tracks = track.step(frame, segmentation)
    assert tracks[0].associated_by == AssociatedBy.PIXELS
    assert 0.5 < tracks[0].association_score <= 1
    for i in range(4, 8):
        frame, segmentation, _ = shot([], i * RATE)
        track.step(frame, segmentation)
    frame, segmentation, _ = shot([thing], 8 * RATE)
    (back,) = track.step(frame, segmentation)
    assert (back.track_id, back.associated_by) == (1, AssociatedBy.MEMORY)


def test_a_turning_camera_loses_no_hidden_object():
    """All of the world moves left by 4 pixels a frame; an object is not seen for five frames and comes back there."""
    world = texture(5, HEIGHT, WIDTH + 80)
    ids, track = [], make_tracker(Config())
    for i in range(14):
        image = world[:, 4 * i : 4 * i + WIDTH].copy()
        mask = np.zeros((HEIGHT, WIDTH), np.int64)
        left = 90 - 4 * i
        visible = []
        if not 5 <= i < 10:
            mask[20:45, left : left + 18] = 1
            visible = [Thing((left, 20, left + 18, 45), name=1)]
        frame, segmentation, _ = segmented(image, mask, visible, i * RATE)
        ids.append([t.track_id for t in track.step(frame, segmentation) if t.index >= 0])
    assert ids == [[1]] * 5 + [[]] * 5 + [[1]] * 4


def test_equal_runs_after_a_reset():
    """A reset leaves nothing behind but the ids: the same frames give the same scores."""
    track = make_tracker(Config())
    runs = []
    for _ in range(2):
        scores = []
        for i in range(5):
            things = [Thing((10 + 4 * i, 20, 30 + 4 * i, 40), name=1), Thing((80, 20, 100, 45), name=2)]
            frame, segmentation, _ = shot(things, i * RATE)
            scores.append([t.association_score for t in track.step(frame, segmentation)])
        runs.append(scores)
        track.reset()
    assert runs[0] == runs[1]


def test_frame_without_things_and_image_of_one_pixel():
    track = make_tracker(Config())
    for size in ((1, 1), (HEIGHT, WIDTH)):
        image = np.zeros((*size, 3), np.uint8)
        empty = replace(shot([])[1], map=np.zeros(size, np.uint8))
        assert track.step(Frame(image, 0), empty) == ()
