"""The steps of the hierarchical tracker: camera motion, appearance models, features of pairs, and the match scorer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trackers_scene import HEIGHT, RATE, WIDTH, Thing, identities, render, segmented, texture
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.flow.dis import DisFlow
from vps_ros.flow.history import FlowHistory
from vps_ros.frame import AssociatedBy, Frame
from vps_ros.online import describe_segments
from vps_ros.trackers import make_tracker
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical.compare import COLUMNS, compare, geometry, near_pairs, union_of_pairs
from vps_ros.trackers.hierarchical.predict import camera_motion
from vps_ros.trackers.hierarchical.update import AppearanceModel, HierarchicalMemory
from vps_ros.trackers.masks import MaskHistory
from vps_ros.trackers.match_scorer import (
    CONTEXT_FEATURES,
    FIRST_STAGE,
    SECOND_STAGE,
    MatchScorer,
    competition,
    read,
    shipped_scorer,
    write,
)

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
    found = camera_motion(flow_of(motion), np.zeros((96, 160), bool))
    np.testing.assert_allclose(found, motion, atol=1e-5)


def test_camera_motion_ignores_what_moves_by_itself():
    motion = np.array([[0.01, 0], [0, 0.01], [0.03, -0.01]])
    flow = flow_of(motion)
    flow[30:60, 20:70] += 9
    np.testing.assert_allclose(camera_motion(flow, np.zeros((96, 160), bool)), motion, atol=1e-3)


def test_camera_motion_says_nothing_without_background():
    assert camera_motion(flow_of(np.zeros((3, 2))), np.ones((96, 160), bool)) is None


# Appearance


def unit(*angles):
    return np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)


def taught(same, different, rounds=400):
    """A model of one object that turns by `same` radians between frames, beside another `different` radians away."""
    model, classes = AppearanceModel(), np.zeros(2, np.int64)
    model.add(2)
    for i in range(rounds):
        turn = same * (i % 2)
        model.observe(unit(turn, different + turn), classes)
        model.update(np.arange(2), np.arange(2), 1.0)
    return model


def test_appearance_that_distinguishes_objects_counts():
    model = taught(0.1, 1.4)
    assert model.log_likelihood_ratio(np.array([np.cos(0.1)])) > 2
    assert model.log_likelihood_ratio(np.array([np.cos(1.4)])) == -6


def test_appearance_that_does_not_distinguish_objects_has_no_influence():
    """Two objects as similar as each is to itself: whatever the cosine, neither case is much more likely."""
    model = taught(0.3, 0.3)
    assert abs(model.log_likelihood_ratio(np.array([np.cos(0.3)]))) < 2


def test_more_similarity_than_usual_does_not_lower_the_ratio():
    model = taught(0.5, 1.5)
    assert model.log_likelihood_ratio(np.array([1.0])) >= model.log_likelihood_ratio(np.array([np.cos(0.5)]))


def test_unknown_appearance_stays_until_known_and_known_one_through_unknown():
    model, one = AppearanceModel(), np.zeros(1, np.int64)
    model.add(1)
    model.observe(np.zeros((1, 2), np.float32), one)
    model.update(one, one, 0.5)
    assert not model.vectors.any() and not model.known.any()
    for units, expected in ((unit(0.5), 0.5), (np.zeros((1, 2), np.float32), 0.5), (unit(0.9), 0.7)):
        model.observe(units, one)
        model.update(one, one, 0.5)
        np.testing.assert_allclose(model.vectors, unit(expected), atol=1e-6)


@given(st.floats(0.01, 1), st.floats(0, np.pi * 0.9))
def test_mean_appearance_has_norm_1(weight, turn):
    model, one = AppearanceModel(), np.zeros(1, np.int64)
    model.add(1)
    for angle in (0, turn, 0, turn):
        model.observe(unit(angle), one)
        model.update(one, one, weight)
        np.testing.assert_allclose(np.linalg.norm(model.vectors, axis=1), 1, atol=1e-4)


def test_appearances_of_different_classes_are_not_compared():
    model = AppearanceModel()
    before = model.log_likelihood_ratio(np.linspace(-1, 1, 9))
    model.observe(unit(0, 1), np.array([11, 13]))
    np.testing.assert_array_equal(model.log_likelihood_ratio(np.linspace(-1, 1, 9)), before)


# Pairs that are near


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30))
def test_near_pairs_are_those_of_the_complete_table(seed, tracks, detections):
    """Corners on a coarse grid, so that many distances are equal to the reach, which is included."""
    rng = np.random.default_rng(seed)
    predicted, boxes = (np.repeat(rng.integers(0, 16, (n, 2)), 2, 0).reshape(n, 4) / 16 for n in (tracks, detections))
    for b in (predicted, boxes):
        b[:, 2:] = b[:, :2] + rng.integers(1, 5, (len(b), 1)) / 16
    reach = rng.integers(1, 4, tracks).astype(float)
    m, k = near_pairs(geometry(predicted), geometry(boxes), reach)
    side = predicted[:, None, 2] - predicted[:, None, 0] + boxes[:, 2] - boxes[:, 0]
    apart = np.abs(boxes[:, :2] + boxes[:, 2:] - (predicted[:, :2] + predicted[:, 2:])[:, None])
    assert sorted(zip(m.tolist(), k.tolist(), strict=True)) == list(
        zip(*np.nonzero((apart <= side[..., None] * reach[:, None, None]).all(axis=2)), strict=True)
    )


def test_union_of_pairs_has_each_once_and_says_which_touch():
    pairs, by_pixels = union_of_pairs(np.array([8, 3, 5]), np.array([5, 0, 5]))
    assert pairs.tolist() == [0, 3, 5, 8]
    assert by_pixels.tolist() == [True, False, True, False]


# The match scorer


def by_hand(**changed):
    """The first stage takes the first feature for log-odds, the second subtracts half the competition of the track."""
    f = len(COLUMNS)
    arrays = {
        "mean": np.zeros(f),
        "scale": np.ones(f),
        "hidden": np.eye(1, f),
        "hidden_bias": np.zeros(1),
        "out": np.ones(1),
        "out_bias": np.zeros(()),
        "again": np.eye(1, f + CONTEXT_FEATURES, f + 1),
        "again_bias": np.zeros(1),
        "again_out": np.array([-1.5]),
        "again_out_bias": np.zeros(()),
    }
    return MatchScorer(**{name: np.asarray(v, np.float32) for name, v in {**arrays, **changed}.items()})


def test_competition_is_from_the_other_pairs_of_the_group():
    (found,) = competition(np.array([0.0, 1.0, 2.0, 5.0]), np.array([3, 3, 3, 0]))
    e = np.exp
    np.testing.assert_allclose(found, np.log([1 + e(1) + e(2), 2 + e(2), 2 + e(1), 1]))


def test_second_stage_sees_the_competition():
    columns = np.zeros((3, len(COLUMNS)), np.float32)
    columns[:, 0] = 2, 1, 1
    odds = by_hand()(columns, np.array([0, 0, 1]), np.array([0, 1, 2]))
    expected = [2 - 0.5 * np.log(1 + np.e), 1 - 0.5 * np.log(1 + np.exp(2)), 1]
    np.testing.assert_allclose(odds, expected, rtol=1e-6)


def test_scorer_is_written_and_read(tmp_path):
    scorer = replace(by_hand(out_bias=0.5), about={"format": 1, "columns": COLUMNS})
    write(tmp_path / "scorer.npz", scorer)
    again = read(tmp_path / "scorer.npz", COLUMNS)
    for name in (*FIRST_STAGE, *SECOND_STAGE):
        np.testing.assert_array_equal(getattr(again, name), getattr(scorer, name))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden": np.ones((1, 3))}, "'hidden' is"),
        ({"out": np.array([np.nan])}, "not finite"),
        ({"about": {"format": 1, "columns": ["other"]}}, "other features"),
        ({"about": {"format": 99, "columns": COLUMNS}}, "other features"),
    ],
)
def test_scorer_that_does_not_fit_is_refused(tmp_path, change, says):
    scorer = replace(by_hand(), **{"about": {"format": 1, "columns": COLUMNS}, **change})
    write(tmp_path / "scorer.npz", scorer)
    with pytest.raises(InputError, match=says):
        read(tmp_path / "scorer.npz", COLUMNS)


def test_file_that_is_no_scorer_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "scorer.npz", COLUMNS)
    (tmp_path / "scorer.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="not weights"):
        read(tmp_path / "scorer.npz", COLUMNS)


def test_shipped_scorer_accepts_what_overlaps_and_rejects_what_is_far():
    """One track, one detection: all features speak for it; none does."""
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
        assert (shipped_scorer("hierarchical", COLUMNS)(row, np.array([0]), np.array([0]))[0] > 0) == likely


# Features of pairs


def test_evidence_of_a_thing_that_stood_still():
    memory = HierarchicalMemory()
    pixels = MaskHistory(FlowHistory(DisFlow()))
    things = [Thing((40, 20, 60, 40), name=1)]
    for i in range(2):
        frame, segmentation, _ = render(things, i * RATE)
        seen = Detections.of(segmentation)
        pixels.push(frame, segmentation, seen)
        memory.move(None, 0.1 * i, seen.size)
        memory.observe(seen, np.ones((1, 4), np.float32) / 2)
        if i == 0:
            memory.create(seen, np.array([0]), np.array([7]), np.array([0]), 0, 1)
            pixels.set_ids(np.array([7]))
    pairs = compare(memory, pixels, seen, RATE)
    assert (pairs.m.tolist(), pairs.k.tolist(), pairs.by_pixels.tolist()) == ([0], [0], [True])
    found = dict(zip(COLUMNS, pairs.features[0].tolist(), strict=True))
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
    memory = HierarchicalMemory()
    frame, segmentation, _ = render([Thing((40, 20, 60, 40), name=1)])
    seen = Detections.of(segmentation)
    memory.move(None, 0.0, seen.size)
    memory.observe(seen, np.ones((1, 4), np.float32) / 2)
    memory.create(seen, np.array([0]), np.array([1]), np.array([0]), 0, 1)
    nothing = Detections.of(render([], RATE)[1])
    right = np.array([[0, 0], [0, 0], [10 / WIDTH, 0]])
    for _ in range(3):
        memory.move(right, 0.1, nothing.size)
        memory.observe(nothing, np.empty((0, 4), np.float32))
    np.testing.assert_allclose(memory.predict(0, np.array([0]))[0], np.array([70, 20, 90, 40]) / ([WIDTH, HEIGHT] * 2))


@pytest.mark.parametrize("step", [0, 1, -RATE // 2])
def test_a_stamp_that_stands_still_or_goes_back_changes_no_motion(step):
    """4 px a frame; the fifth image comes with the stamp of the fourth, or all but. Then it is hidden and goes on."""
    track = make_tracker(Config())
    for i, stamp in enumerate((0, RATE, 2 * RATE, 3 * RATE, 3 * RATE + step)):
        frame, segmentation, _ = render([Thing((10 + 4 * i, 20, 30 + 4 * i, 45), name=1)])
        track.step(replace(frame, stamp=stamp), segmentation)
    frame, segmentation, _ = render([])
    (lost,) = track.step(replace(frame, stamp=4 * RATE), segmentation)
    assert lost.index == -1 and lost.box[0] == pytest.approx(30, abs=4)


def test_a_late_image_does_not_change_predicted_paths():
    """4 px and 0.1 s a frame; the fifth image has a stamp 2 ms before the sixth's. Then it is hidden for two frames."""
    track = make_tracker(Config())
    for i, milliseconds in enumerate((0, 100, 200, 300, 398, 400, 500, 600, 700)):
        things = [] if i in (6, 7) else [Thing((10 + 4 * i, 20, 30 + 4 * i, 45), name=1)]
        frame, segmentation, _ = render(things)
        (only,) = track.step(replace(frame, stamp=milliseconds * 1_000_000), segmentation)
        assert only.track_id == 1 and only.box[0] == pytest.approx(10 + 4 * i, abs=3)


def test_motion_is_learned_at_once_also_after_a_pause():
    """Two frames 3 s apart: what appears then is followed as ever."""
    track = make_tracker(Config())
    for i, stamp in enumerate((0, 1, 2, 32, 33, 34)):
        things = [Thing((90, 50, 120, 70), name=2)]
        if i > 3:
            things.append(Thing((10 + 4 * i, 20, 30 + 4 * i, 45), name=1))
        track.step(*render(things, stamp * RATE)[:2])
    lost = {t.slot: t.box[0] for t in track.step(*render([], 35 * RATE)[:2])}
    assert lost == {0: pytest.approx(90, abs=1), 1: pytest.approx(34, abs=2)}


# What users see


def test_class_of_a_track_is_that_of_most_detections():
    """A car that is called a truck for one frame stays a car, in the track and in the map; in the end it is a truck."""
    track, car = make_tracker(Config()), Thing((40, 20, 70, 45), class_id=13, name=1)
    told = []
    for i, class_id in enumerate([13, 13, 13, 14, 13] + [14] * 12):
        frame, segmentation, names = render([replace(car, class_id=class_id)], i * RATE)
        tracks = track.step(frame, segmentation)
        assert identities(tracks, names) == {1: 1}
        assert describe_segments(segmentation, tracks)[0].class_id == tracks[0].class_id
        told.append(tracks[0].class_id)
    assert told[:5] == [13] * 5
    assert told[-1] == 14


def test_associated_by_is_pixels_where_masks_overlap_else_memory():
    track, thing = make_tracker(Config()), Thing((20, 20, 50, 45), name=1)
    for i in range(4):
        frame, segmentation, _ = render([thing], i * RATE)
        tracks = track.step(frame, segmentation)
    assert tracks[0].associated_by == AssociatedBy.PIXELS
    assert 0.5 < tracks[0].association_score <= 1
    for i in range(4, 8):
        frame, segmentation, _ = render([], i * RATE)
        track.step(frame, segmentation)
    frame, segmentation, _ = render([thing], 8 * RATE)
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
            frame, segmentation, _ = render(things, i * RATE)
            scores.append([t.association_score for t in track.step(frame, segmentation)])
        runs.append(scores)
        track.reset()
    assert runs[0] == runs[1]


def test_frame_without_things_and_image_of_one_pixel():
    track = make_tracker(Config())
    for size in ((1, 1), (HEIGHT, WIDTH)):
        image = np.zeros((*size, 3), np.uint8)
        empty = replace(render([])[1], map=np.zeros(size, np.uint8))
        assert track.step(Frame(image, 0), empty) == ()
