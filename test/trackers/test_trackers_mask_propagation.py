"""STEP's baselines of mask IoU, `iou` and `mask_propagation`, against answers worked out by hand."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trackers_scene import (
    BACKGROUND,
    HEIGHT,
    RATE,
    WIDTH,
    at,
    identities,
    ids_of,
    render,
    segmented,
    texture,
    tracker,
)
from vps_ros.frame import AssociatedBy, Frame
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.mask_propagation import LastMasks
from vps_ros.trackers.similarity import iou, overlap


def test_mask_iou_of_a_known_shift():
    """4x4 squares one column apart share 12 pixels of 20."""
    before, after = np.zeros((8, 8), np.uint16), np.zeros((8, 8), np.uint16)
    before[2:6, 2:6] = 1
    after[2:6, 3:7] = 2
    after[0, :4] = 1
    assert iou(overlap(before, after, 1, 2)).tolist() == [[0, 12 / 20]]
    assert iou(overlap(before * 0, after * 0, 1, 1)).tolist() == [[0]]


def test_iou_above_threshold():
    """20 px wide: 10 px on share 10 of 30, 11 px on 9 of 31, which is less than 0.3."""
    assert ids_of(tracker("iou"), [[at(10)], [at(20)]])[1] == {1: 1}
    assert ids_of(tracker("iou"), [[at(10)], [at(21)]])[1] == {1: 2}
    assert ids_of(tracker("iou", iou_threshold=0.2), [[at(10)], [at(21)]])[1] == {1: 1}


def test_iou_is_of_masks_not_of_boxes():
    """Two L shapes in one box that share no pixel."""

    def half(upper):
        mask = np.zeros((HEIGHT, WIDTH), int)
        square = np.add.outer(np.arange(20), np.arange(20))
        mask[10:30, 10:30] = square < 19 if upper else square > 19
        return segmented(BACKGROUND, mask, [at(10)], 0 if upper else RATE)

    for name, expected in (("iou", 2), ("sort", 1)):
        track = tracker(name)
        for upper in (True, False):
            frame, segmentation, _ = half(upper)
            segmentation.boxes[:] = 10, 10, 30, 30
            tracks = track.step(frame, segmentation)
        assert [t.track_id for t in tracks if t.index >= 0] == [expected]


@pytest.mark.parametrize("name", ["iou", "mask_propagation"])
def test_masks_are_kept_for_ten_frames_where_they_were(name):
    for hidden, expected in ((9, 1), (10, 3)):
        frames = [[at(10)], *[[at(90, name=2)]] * hidden, [at(10)]]
        assert ids_of(tracker(name), frames)[-1] == {1: expected}


@pytest.mark.parametrize("name", ["iou", "mask_propagation"])
def test_lost_masks_on_top_of_each_other_are_both_kept(name):
    """Three classes in one place at different times; each is known again."""
    car, person, bus = (at(10, class_id=c, name=c) for c in (13, 11, 15))
    frames = [[car], [person], [bus], [], [person], [car], [bus]]
    assert ids_of(tracker(name), frames)[4:] == [{11: 2}, {13: 1}, {15: 3}]


def test_masks_are_laid_on_as_few_maps_as_they_overlap():
    masks = LastMasks(height=10_000)
    for f, (x, name) in enumerate([(0, 1), (30, 2), (60, 3), (5, 4), (90, 5)]):
        frame, segmentation, _ = render([at(x, name=name)], f * RATE)
        masks.push(frame, segmentation, Detections.of(segmentation))
        masks.remember(np.array([name]))
    assert sorted(masks.ids) == [1, 2, 3, 4, 5]
    assert len(masks.maps) == 3, "the last frame's, and two for 1 and 4, which overlap"
    frame, segmentation, _ = render([at(0, 10)], 9 * RATE)
    masks.push(frame, segmentation, Detections.of(segmentation))
    found = dict(zip(masks.ids.tolist(), masks.iou()[:, 0].tolist(), strict=True))
    assert found == {1: 1, 4: 15 / 25, 2: 0, 3: 0, 5: 0}
    masks.keep(np.array([3, 4]))
    assert sorted(masks.ids) == [3, 4]
    assert dict(zip(masks.ids.tolist(), masks.iou()[:, 0].tolist(), strict=True)) == {4: 15 / 25, 3: 0}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_mask_iou_equals_comparing_every_pair_of_last_masks(data):
    """Against one boolean mask for each object, as STEP's released code keeps them."""
    masks = LastMasks(height=10_000)
    last: dict[int, np.ndarray] = {}
    for f in range(8):
        names = data.draw(st.sets(st.integers(1, 6), max_size=4))
        things = [at(data.draw(st.integers(0, 100)), data.draw(st.integers(0, 50)), name=n) for n in sorted(names)]
        frame, segmentation, shown = render(things, 0)
        seen = Detections.of(segmentation)
        masks.push(replace(frame, stamp=f * RATE), segmentation, seen)
        now = [segmentation.map == i + 1 for i in seen.index]
        expected = {n: [(m & o).sum() / (m | o).sum() if (m | o).any() else 0 for o in now] for n, m in last.items()}
        found = dict(zip(masks.ids.tolist(), masks.iou().tolist(), strict=True))
        assert found == {n: pytest.approx(row) for n, row in expected.items()}
        order = [shown[i] for i in seen.index]
        masks.remember(np.array(order, np.int64))
        last |= dict(zip(order, now, strict=True))


def panned(frames, step, hidden=()):
    """A camera that turns: a wide ground slides by `step` px a frame, a narrow object with it."""
    wide = texture(5, HEIGHT, WIDTH + step * frames)
    wide[20:50, 90:102] = texture(6, 30, 12)
    for f in range(frames):
        left = step * f
        mask = np.zeros((HEIGHT, WIDTH), int)
        if f not in hidden:
            mask[20:50, 90 - left : 102 - left] = 1
        yield segmented(np.ascontiguousarray(wide[:, left : left + WIDTH]), mask, [at(0)], f * RATE)


def test_mask_propagation_follows_the_flow():
    """12 px wide and 8 px a frame: the masks share 4 of 20 px where they were, nearly all where the flow takes them."""
    for name, expected in (("mask_propagation", {1}), ("iou", {1, 2, 3, 4, 5, 6})):
        track = tracker(name)
        found = [identities(track.step(frame, s), names)[1] for frame, s, names in panned(6, 8)]
        assert set(found) == expected
    assert track.milliseconds["flow"] == 0


def test_mask_propagation_moves_lost_masks_too():
    """Not seen for three frames of a camera that turns: the mask has moved by 16 px, more than it is wide."""
    for name, expected in (("mask_propagation", 1), ("iou", 2)):
        track = tracker(name)
        for frame, segmentation, _ in panned(6, 4, hidden=(2, 3, 4)):
            tracks = track.step(frame, segmentation)
        assert [t.track_id for t in tracks if t.index >= 0] == [expected]
        assert all(t.associated_by in (AssociatedBy.PIXELS, AssociatedBy.NEW) for t in tracks)


def test_grid_of_a_large_camera_is_the_flows():
    """Masks are compared on the small grid whatever the camera's size: a mask of one cell more or less is enough."""
    track = tracker("iou", flow_height=36)
    for f in range(2):
        frame, segmentation, names = render([at(10 + 4 * f)], 0)
        large = cv2.resize(segmentation.map, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
        picture = cv2.resize(frame.image, None, fx=4, fy=4)
        segmentation = replace(segmentation, map=large, boxes=segmentation.boxes * 4, areas=segmentation.areas * 16)
        tracks = track.step(Frame(picture, f * RATE), segmentation)
    assert identities(tracks, names) == {1: 1}
    assert tracks[0].association_score == pytest.approx(16 / 24)
