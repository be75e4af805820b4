"""Propagation of masks to every frame."""

import cv2
import numpy as np
import pytest

from support.track_folders import CAR, PERSON, ROAD, SKY
from vps_ros.datasets.labels import LabelMap
from vps_ros.flow.dis import DisFlow
from vps_ros.labelling.dense import CODE, VOID, Moved, fuse, named_segments, propagate
from vps_ros.labelling.flows import paths
from vps_ros.labelling.sparse import associate, numbered, sparse_frames
from vps_ros.segmenters.segmentation import segmentation_from_map
from vps_ros.taxonomy import CITYSCAPES

COUNT = 9
SIZE = (96, 256)
FLOW = DisFlow("medium", SIZE[0])


def texture(seed, height, width):
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def scene(frame):
    """(image, labels): cars 1 and 2 move 2 px a frame to the right and to the left, person 3 stands."""
    semantic, instance = np.full(SIZE, ROAD, np.uint8), np.zeros(SIZE, np.uint16)
    semantic[:20] = SKY
    image = texture(0, *SIZE)
    things = [(CAR, 30 + 2 * frame, 24, 60, 28), (CAR, 160 - 2 * frame, 58, 60, 30), (PERSON, 216, 30, 24, 50)]
    for number, (class_id, x, y, width, height) in enumerate(things, 1):
        inside = slice(y, y + height), slice(x, x + width)
        semantic[inside], instance[inside] = class_id, number
        image[inside] = texture(number, height, width)
    return image, LabelMap(semantic, instance)


def image(frame):
    return scene(frame)[0]


def truth(frame):
    return scene(frame)[1]


def segmentation(labels, classes, scores=None):
    return segmentation_from_map(np.asarray(labels), classes, scores or [0.9] * len(classes), CITYSCAPES)


def nothing(frame):
    """A segmenter that finds nothing."""
    return segmentation(np.zeros(image(frame).shape[:2], int), [])


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_flow_over_several_frames_leads_to_the_same_surface():
    to_first, to_last = paths(FLOW, image, 0, 6)
    for path, frame, source in ((to_first[6], 6, 0), (to_last[0], 0, 6)):
        labels = truth(source).instance.astype(np.int32)
        for number in (1, 2, 3):
            assert iou(path.warp(labels) == number, truth(frame).instance == number) > 0.7


def test_masks_reach_every_frame_from_both_sides():
    found = {f: labels for f, labels, _ in propagate([0, 8], truth, COUNT, FLOW, image, nothing)}
    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7]
    for frame, labels in found.items():
        for number in (1, 2, 3):
            assert iou(labels.instance == number, truth(frame).instance == number) > 0.8, (frame, number)
            assert set(labels.semantic[labels.instance == number]) == {PERSON if number == 3 else CAR}


def test_frames_outside_the_labelled_ones_get_labels_from_one_side():
    found = {f: labels for f, labels, _ in propagate([2], truth, 5, FLOW, image, nothing)}
    assert sorted(found) == [0, 1, 3, 4]
    for frame, labels in found.items():
        assert iou(labels.instance == 2, truth(frame).instance == 2) > 0.7


def moved(codes, weight, trust=1.0):
    codes = np.array([codes], np.int32)
    return Moved(codes, np.full(codes.shape, trust, np.float32), weight)


A, B, S = CAR * CODE + 1, CAR * CODE + 2, ROAD * CODE


def fused(before, after, weights, labels, classes, trust=(1.0, 1.0)):
    sides = [moved(before, weights[0], trust[0]), moved(after, weights[1], trust[1])]
    result, content = fuse(sides, segmentation([labels], classes))
    return (result.semantic.astype(int) * CODE + result.instance)[0].tolist(), content


def test_votes_of_the_three_sources():
    # The nearer labelled frame decides where the segmenter shows nothing.
    assert fused([A, S], [B, S], (0.7, 0.3), [0, 0], [])[0] == [A, S]
    # Near the middle, the segmenter does: road 0.4 + 0.45 against 0.55.
    assert fused([A, S], [S, S], (0.55, 0.45), [1, 1], [ROAD])[0] == [S, S]
    # Near a labelled frame, it does not: 0.9 against 0.1 + 0.4.
    assert fused([A, S], [S, S], (0.9, 0.1), [1, 1], [ROAD])[0] == [A, S]
    # Flow that contradicts its reverse has a quarter of the vote: 0.9 / 4 against 0.1 + 0.4.
    assert fused([A, S], [S, S], (0.9, 0.1), [1, 1], [ROAD], (0.0, 1.0))[0] == [S, S]
    # Outside the image, there is no vote.
    assert fused([-1, S], [B, S], (0.9, 0.1), [0, 0], [])[0] == [B, S]
    assert fused([-1, S], [-1, S], (0.9, 0.1), [0, 0], [])[0] == [VOID, S]


def test_uncertain_pixels_and_objects():
    _, content = fused([A, S, S, S], [A, S, S, S], (0.5, 0.5), [1, 2, 2, 2], [CAR, ROAD])
    assert content.uncertain == 0
    assert [(row.id, row.agreement) for row in content.segments] == [(1, 1.0)]
    # Three sources, three labels in the first pixel: the largest vote is 0.5 of 1.4.
    _, content = fused([A, A, S, S], [B, A, S, S], (0.5, 0.5), [2, 1, 2, 2], [CAR, ROAD])
    assert content.uncertain == 0.25
    assert {row.id: row.agreement for row in content.segments}[1] == pytest.approx(0.5)


def test_segments_get_the_object_that_they_overlap_most():
    codes = np.array([[A, A, A, B, B, S]], np.int32)
    # The segmenter sees one car over all of A and one pixel of B; and a car that is not known on the road.
    found = named_segments(codes, segmentation([[1, 1, 1, 1, 0, 2]], [CAR, CAR]))
    assert found.tolist() == [[A, A, A, A, -1, -1]]


def test_sparse_masks_are_associated_through_all_frames_between():
    frames = (0, 4, 8)
    given = [numbered(truth(f), CITYSCAPES) for f in frames]
    assert [row.id for row in given[0][1]] == [1, 2, 3]
    found = list(associate(iter(given), frames, FLOW, image))
    for frame, labels, content in found:
        assert {row.id: row.class_id for row in content.segments} == {1: PERSON, 2: CAR, 3: CAR}
        for number in (1, 2, 3):
            mine = np.unique(labels.instance[truth(frame).instance == number])
            first = np.unique(found[0][1].instance[truth(0).instance == number])
            assert mine.tolist() == first.tolist(), (frame, number)
        assert (labels.semantic == SKY).any()


def test_an_object_that_is_missed_once_keeps_its_identity():
    def without_car_2(labels, rows):
        kept = labels.instance != 3
        return LabelMap(labels.semantic, np.where(kept, labels.instance, 0)), tuple(r for r in rows if r.id != 3)

    given = [numbered(truth(f), CITYSCAPES) for f in (0, 2, 4)]
    given[1] = without_car_2(*given[1])
    found = list(associate(iter(given), (0, 2, 4), FLOW, image))
    assert [sorted(row.id for row in content.segments) for _, _, content in found] == [
        [1, 2, 3],
        [1, 2],
        [1, 2, 3],
    ]


@pytest.mark.parametrize(
    ("count", "rate", "hz", "expected"),
    [
        (31, 10, 1, (0, 10, 20, 30)),
        (35, 10, 1, (0, 10, 20, 30, 34)),
        (4, 10, 10, (0, 1, 2, 3)),
        (4, 10, 99, (0, 1, 2, 3)),
        (1, 10, 1, (0,)),
    ],
)
def test_sparse_frames_and_the_last_one(count, rate, hz, expected):
    assert sparse_frames([round(i * 1e9 / rate) for i in range(count)], hz) == expected


def test_stamps_that_jitter_do_not_shift_the_sparse_frames():
    rng = np.random.default_rng(0)
    stamps = [round((i + rng.uniform(-0.2, 0.2)) * 1e8) for i in range(41)]
    assert sparse_frames(stamps, 1) == (0, 10, 20, 30, 40)
