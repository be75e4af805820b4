"""The location-aware memory: Video-kMaX equations 3, 4 and 5, each worked out by hand."""

import math

import numpy as np
import pytest

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.trackers.detections import Detections, norms
from vps_ros.trackers.hila_mb import HilaMb, HilaMbParameters
from vps_ros.trackers.memory import TrackMemory, TrackNumbers
from vps_ros.trackers.similarity import appearance_similarity, location_similarity

SECOND = 1_000_000_000


def things(boxes, embeddings=None, class_ids=None, size=(100, 200)):
    """Detections of an image `size` (height, width) from boxes divided by it."""
    count = len(boxes)
    pixels = np.asarray(boxes, np.float32).reshape(count, 4) * np.float32([size[1], size[0]] * 2)
    return Detections.of(
        Segmentation(
            np.zeros(size, np.uint8),
            np.asarray(class_ids if class_ids is not None else [13] * count, np.int32),
            np.ones(count, bool),
            np.ones(count, np.float32),
            np.arange(1, count + 1),
            pixels,
            None if embeddings is None else np.asarray(embeddings, np.float32).reshape(count, -1),
        )
    )


def stored(memory, seen, stamp, frame=1):
    """All `seen` things as new objects; gives their rows."""
    count = len(seen)
    first = len(memory)
    return memory.create(
        seen, np.arange(count), np.arange(first + 1, first + count + 1), np.arange(first, first + count), stamp, frame
    )


def associated(memory, seen, alpha, alone, temperature, stamp):
    """Rows, detections and similarities that HiLA-MB pairs, with alpha, that of the location alone, and T."""
    track = HilaMb(HilaMbParameters(memory_threshold=alpha, location_threshold=alone, location_temperature=temperature))
    track.memory = memory
    matches = track.associate(seen, stamp)
    return matches.tracks, matches.detections, matches.scores


def test_equation_3_averages_appearance():
    memory = TrackMemory(appearance_weight=0.8)
    box = [[0.1, 0.1, 0.2, 0.2]]
    row = stored(memory, things(box, [[1, 0]]), 0)
    assert memory.embeddings[0] == pytest.approx([1, 0])
    memory.update(row, things(box, [[0, 1]]), np.array([0]), SECOND, 2)
    assert memory.embeddings[0] == pytest.approx([0.2, 0.8])
    memory.update(row, things(box, [[1, 0]]), np.array([0]), 2 * SECOND, 3)
    assert memory.embeddings[0] == pytest.approx([0.2 * 0.2 + 0.8, 0.2 * 0.8])


def test_equation_3_keeps_appearance_through_frames_without_one():
    memory = TrackMemory()
    box = [[0.1, 0.1, 0.2, 0.2]]
    row = stored(memory, things(box), 0)
    assert memory.embeddings is None
    memory.update(row, things(box, [[3, 4]]), np.array([0]), 1, 2)
    assert memory.embeddings[0] == pytest.approx([3, 4]), "the first appearance is taken whole"
    for unusable in ([[np.nan, 1]], [[np.inf, 0]], [[0, 0]], [[1e38, 1e38]], None):
        memory.update(row, things(box, unusable), np.array([0]), 2, 3)
        assert memory.embeddings[0] == pytest.approx([3, 4])


def test_equation_4_predicts_from_the_last_two_boxes_at_a_steady_rate():
    memory = TrackMemory()
    row = stored(memory, things([[0.10, 0.2, 0.30, 0.4]]), 0)
    assert memory.predict(10**9, row)[0] == pytest.approx([0.10, 0.2, 0.30, 0.4]), "one sighting has no motion"
    memory.update(row, things([[0.05, 0.2, 0.25, 0.4]]), np.array([0]), SECOND // 10, 2)
    memory.update(row, things([[0.15, 0.22, 0.35, 0.46]]), np.array([0]), 2 * SECOND // 10, 3)
    assert memory.predict(3 * SECOND // 10, row)[0] == pytest.approx([0.25, 0.24, 0.45, 0.52], abs=1e-6)
    assert memory.predict(5 * SECOND // 10, row)[0] == pytest.approx([0.45, 0.28, 0.65, 0.64], abs=1e-6)


def test_equation_4_honours_uneven_frame_times():
    """0.02 in 0.1 s, then a gap of 0.3 s: the same motion gives 0.06."""
    memory = TrackMemory()
    row = stored(memory, things([[0.10, 0.2, 0.30, 0.4]]), 5 * SECOND)
    memory.update(row, things([[0.12, 0.2, 0.32, 0.4]]), np.array([0]), 5 * SECOND + SECOND // 10, 2)
    assert memory.predict(5 * SECOND + 4 * SECOND // 10, row)[0] == pytest.approx([0.18, 0.2, 0.38, 0.4], abs=1e-6)


def test_velocity_over_a_gap_is_that_of_the_seen_boxes():
    memory = TrackMemory()
    row = stored(memory, things([[0.1, 0.2, 0.2, 0.4]]), 0)
    memory.update(row, things([[0.2, 0.2, 0.3, 0.4]]), np.array([0]), SECOND, 2)
    memory.update(row, things([[0.5, 0.2, 0.6, 0.4]]), np.array([0]), 3 * SECOND, 9)
    assert memory.rows["velocity"][0] == pytest.approx([0.15, 0, 0.15, 0], abs=1e-6)


@pytest.mark.parametrize("stamp", [SECOND, SECOND - 5, SECOND + 1, 0])
def test_a_stamp_that_stands_still_keeps_the_velocity(stamp):
    memory = TrackMemory()
    row = stored(memory, things([[0.1, 0.2, 0.2, 0.4]]), 0)
    memory.update(row, things([[0.2, 0.2, 0.3, 0.4]]), np.array([0]), SECOND, 2)
    memory.update(row, things([[0.7, 0.2, 0.8, 0.4]]), np.array([0]), stamp, 3)
    assert memory.rows["velocity"][0] == pytest.approx([0.1, 0, 0.1, 0], abs=1e-6)
    assert memory.predict(stamp, row)[0] == pytest.approx([0.7, 0.2, 0.8, 0.4], abs=1e-6)


@pytest.mark.parametrize(
    ("milliseconds", "velocity"),
    [
        ((0, 100, 200, 300, 400), 1.0),
        # 0.1 in 2 ms, but in half the usual step of 100 ms.
        ((0, 100, 200, 398, 400), 2.0),
        # A pause is a step as it is.
        ((0, 100, 200, 300, 500), 0.5),
        # The steps of 2 ms are pauses between steps of 98 ms.
        ((0, 2, 100, 102, 200), 0.1 / 0.098),
    ],
)
def test_a_velocity_is_that_of_at_least_half_the_usual_step(milliseconds, velocity):
    """0.1 in each step."""
    memory = TrackMemory()
    row = stored(memory, things([[0, 0.2, 0.2, 0.4]]), 0)
    memory.intervals.add(0)
    for frame, time in enumerate(milliseconds[1:], 1):
        stamp, box = time * SECOND // 1000, [[0.1 * frame, 0.2, 0.1 * frame + 0.2, 0.4]]
        memory.intervals.add(stamp)
        memory.update(row, things(box), np.array([0]), stamp, frame)
    assert memory.centre_velocity()[0] == pytest.approx([velocity, 0], abs=1e-5)


def test_a_velocity_from_the_first_two_frames_is_corrected_when_the_usual_step_is_known():
    """0.1 in 2 ms; after 98 ms more, half of that is the step: 0.1 / 49 ms for 98 ms."""
    memory = TrackMemory()
    row = stored(memory, things([[0.1, 0.2, 0.3, 0.4]]), 0)
    second = 2 * SECOND // 1000
    for stamp in (0, second):
        memory.intervals.add(stamp)
    memory.update(row, things([[0.2, 0.2, 0.4, 0.4]]), np.array([0]), second, 2)
    memory.intervals.add(SECOND // 10)
    assert memory.predict(SECOND // 10)[0] == pytest.approx([0.4, 0.2, 0.6, 0.4], abs=1e-6)


def test_predicted_sides_do_not_cross():
    memory = TrackMemory()
    row = stored(memory, things([[0.1, 0.2, 0.5, 0.4]]), 0)
    memory.update(row, things([[0.2, 0.2, 0.4, 0.4]]), np.array([0]), SECOND, 2)
    x0, y0, x1, y1 = memory.predict(9 * SECOND, row)[0]
    assert x0 == x1 == pytest.approx(0.3)
    assert y1 - y0 == pytest.approx(0.2)


def test_velocity_weight_smooths_the_motion():
    memory = TrackMemory(velocity_weight=0.5)
    row = stored(memory, things([[0.1, 0.2, 0.2, 0.4]]), 0)
    memory.update(row, things([[0.2, 0.2, 0.3, 0.4]]), np.array([0]), SECOND, 2)
    assert memory.rows["velocity"][0, 0] == pytest.approx(0.1, abs=1e-6), "a first velocity is taken whole"
    memory.update(row, things([[0.4, 0.2, 0.5, 0.4]]), np.array([0]), 2 * SECOND, 3)
    assert memory.rows["velocity"][0, 0] == pytest.approx(0.15, abs=1e-6)


def test_equation_5_location():
    """Sides 0.1, 0, 0.1, 0 apart: squared distance 0.02."""
    boxes, predicted = np.array([[0, 0, 0.1, 0.1]]), np.array([[0.1, 0, 0.2, 0.1], [0, 0, 0.1, 0.1]])
    assert location_similarity(boxes, predicted, 0.02)[0] == pytest.approx([math.exp(-1), 1])
    assert location_similarity(boxes, predicted, 1.0)[0] == pytest.approx([math.exp(-0.02), 1])


@pytest.mark.parametrize("copies", [1, 60])
def test_equation_5_appearance(copies):
    """Also among so many others that only the wanted pairs are computed."""
    vectors = np.float32([[2, 0], [1, 1], [-3, 0], [0, 0]] * copies)
    stored_vectors = np.float32([[5, 0], [0, 0]] * copies)
    pairs = np.repeat([0, 1, 2, 3], 2), np.tile([0, 1], 4)
    cosine = appearance_similarity(vectors, norms(vectors), stored_vectors, norms(stored_vectors), pairs)
    assert cosine[0::2] == pytest.approx([1, math.sqrt(0.5), -1, 1])
    assert cosine[1::2] == pytest.approx([1, 1, 1, 1]), "unknown appearance leaves the place to decide"


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38, 1e-30, 0])
def test_unusable_embeddings_have_no_length(bad):
    assert norms(np.float32([[3, 4], [bad, bad]])).tolist() == [5, 0]


def test_equation_5_product_decides():
    """Object 0 is nearer, object 1 looks more alike: exp(-0.02 / 0.5) * cos 60 = 0.48, exp(-0.08 / 0.5) * 1 = 0.85."""
    memory = TrackMemory()
    stored(memory, things([[0.2, 0.2, 0.3, 0.4], [0.3, 0.2, 0.4, 0.4]], [[0.5, math.sqrt(0.75)], [1, 0]]), 0)
    now = things([[0.1, 0.2, 0.2, 0.4]], [[1, 0]])
    r, k, similarity = associated(memory, now, 0.8, 1.0, 0.5, SECOND)
    assert (r.tolist(), k.tolist()) == ([1], [0])
    assert similarity[0] == pytest.approx(math.exp(-0.08 / 0.5), rel=1e-5)
    assert not len(associated(memory, now, 0.86, 0.0, 0.5, SECOND)[0])


def test_place_alone_decides_where_no_appearance_is_known():
    memory = TrackMemory()
    rows = stored(memory, things([[0.2, 0.2, 0.3, 0.4]]), 0)
    for now in (things([[0.1, 0.2, 0.2, 0.4]]), things([[0.1, 0.2, 0.2, 0.4]], [[1, 0]])):
        assert len(associated(memory, now, 1.0, 0.96, 0.5, SECOND)[0]) == 1
        assert len(associated(memory, now, 0.0, 0.97, 0.5, SECOND)[0]) == 0
    seen = things([[0.2, 0.2, 0.3, 0.4], [0.6, 0.2, 0.7, 0.4]], [[1, 0], [np.nan, 1]])
    memory = TrackMemory()
    rows = stored(memory, seen, 0)
    both = things([[0.2, 0.2, 0.3, 0.4], [0.6, 0.2, 0.7, 0.4]], [[0, 1], [0, 1]])
    r, k, similarity = associated(memory, both, 0.5, 0.5, 0.5, SECOND)
    assert (r.tolist(), k.tolist(), similarity.tolist()) == ([rows[1]], [1], [1.0])


def test_distances_are_divided_by_width_and_height():
    """An image twice as wide as high; 0.1 of its height on each of two sides counts as 0.1 of its width would."""
    memory = TrackMemory()
    stored(memory, things([[0.2, 0.2, 0.3, 0.4]], size=(100, 200)), 0)
    for box in ([0.2, 0.3, 0.3, 0.5], [0.3, 0.2, 0.4, 0.4]):
        *_, similarity = associated(memory, things([box], size=(100, 200)), 0, 0, 0.02, 0)
        assert similarity[0] == pytest.approx(math.exp(-1), rel=1e-5)


def test_memory_pairs_one_class_only():
    memory = TrackMemory()
    box = [[0.1, 0.2, 0.2, 0.4]]
    stored(memory, things(box, class_ids=[13]), 0)
    assert len(associated(memory, things(box, class_ids=[13]), 0.0, 0.0, 1.0, 1)[0]) == 1
    assert len(associated(memory, things(box, class_ids=[11]), 0.0, 0.0, 1.0, 1)[0]) == 0


@pytest.mark.parametrize("in_seconds", [False, True])
def test_forgetting_after_tau(in_seconds):
    unit = "seconds" if in_seconds else "frames"
    track = HilaMb(HilaMbParameters(confirm_hits=2, memory_tau=3, tentative_tau=1, memory_unit=unit))
    memory = track.memory
    rows = stored(memory, things([[0.1, 0.2, 0.2, 0.4], [0.5, 0.2, 0.6, 0.4]]), 0, frame=0)
    memory.update(rows[:1], things([[0.1, 0.2, 0.2, 0.4]]), np.array([0]), 0, 0)

    def alive(age):
        stamp, track._frame = (age * SECOND, 10**6) if in_seconds else (10**18, age)
        return track._remembered(stamp).tolist()

    assert alive(1) == [True, True]
    assert alive(2) == [True, False], "seen once: tentative_tau"
    assert alive(3) == [True, False]
    assert alive(4) == [False, False]


def test_slots_are_the_smallest_free_numbers():
    assert TrackNumbers.slots(np.array([], int), 3).tolist() == [0, 1, 2]
    assert TrackNumbers.slots(np.array([0, 2, 70]), 3).tolist() == [1, 3, 4]
    assert TrackNumbers.slots(np.array([5]), 0).tolist() == []


def test_slots_end_where_the_map_has_no_number_left():
    last = 65535 - 1000
    assert TrackNumbers.slots(np.arange(last), 1).tolist() == [last]
    with pytest.raises(InputError, match="memory_tau"):
        TrackNumbers.slots(np.arange(last + 1), 1)


def test_ids_go_on():
    numbers = TrackNumbers()
    assert numbers.ids(2).tolist() == [1, 2]
    assert numbers.ids(0).tolist() == []
    assert numbers.ids(1).tolist() == [3]
