"""Segmentations out of ground truth: true ones, and each way of spoiling them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.ablation.degrade import DEGRADED, LOOK_ALIKE, SMALLEST, TRUE, VISIBLE, Degradation, Degrader
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES

ROAD, SKY, PERSON, RIDER, CAR, VOID = 0, 10, 11, 12, 13, 255
HEIGHT, WIDTH = 40, 60


def street(*things):
    """Sky over road with things (class, instance, rows, columns) on it."""
    semantic = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    semantic[: HEIGHT // 2] = SKY
    instance = np.zeros((HEIGHT, WIDTH), np.uint16)
    for class_id, name, rows, columns in things:
        semantic[rows, columns], instance[rows, columns] = class_id, name
    return semantic, instance


CARS = street((CAR, 7, slice(22, 30), slice(4, 20)), (CAR, 900, slice(22, 30), slice(20, 30)),
              (PERSON, 8, slice(24, 36), slice(50, 54)))  # fmt: skip
"""Two cars side by side, and a person apart."""


def spoilt(truth=CARS, seed=0, frames=1, **how):
    make = Degrader(Degradation(**how), seed)
    return [make(*truth) for _ in range(frames)]


def things(segmentation):
    """[(class, pixels)] of the thing segments, sorted."""
    of = np.flatnonzero(segmentation.is_thing)
    return sorted((int(segmentation.class_ids[k]), int(segmentation.areas[k])) for k in of)


def test_true_masks_are_the_truth():
    (found,) = spoilt()
    semantic, instance = CARS
    assert things(found) == [(PERSON, 48), (CAR, 80), (CAR, 128)]
    assert (found.class_ids[found.map.astype(int) - 1] == semantic).all()
    for k in np.flatnonzero(found.is_thing):
        assert len(np.unique(instance[found.map == k + 1])) == 1
    k = int(np.flatnonzero(found.class_ids == PERSON)[0])
    assert found.boxes[k].tolist() == [50, 24, 54, 36]


def test_segments_come_in_another_order_each_time():
    first, second = spoilt(frames=2)
    assert first.class_ids.tolist() != second.class_ids.tolist()
    assert things(first) == things(second)


def test_what_the_truth_leaves_void_goes_to_the_nearest_stuff():
    semantic, instance = CARS[0].copy(), CARS[1].copy()
    semantic[:2, :5], semantic[-3:] = VOID, VOID
    (found,) = spoilt((semantic, instance))
    painted = found.class_ids[found.map.astype(int) - 1]
    assert (painted[:2, :5] == SKY).all() and (painted[-3:] == ROAD).all()


def test_small_things_are_void_in_the_truth_and_have_no_segment():
    truth = street((CAR, 3, slice(22, 24), slice(0, 9)), (CAR, 4, slice(22, 24), slice(30, 40)))
    assert 2 * 9 < SMALLEST == 2 * 10
    semantic, instance = VISIBLE.void_small(*truth, CITYSCAPES)
    assert (semantic[22:24, :9] == VOID).all() and instance.max() == 4 and (instance == 4).sum() == 20
    assert things(spoilt((semantic, instance))[0]) == [(CAR, 20)]
    # The maps that were given are left as they were.
    assert (truth[0][22:24, :9] == CAR).all()


def test_a_missed_thing_becomes_what_is_around_it():
    for found in spoilt(missed=0.8, gap=6, frames=20, seed=1):
        seen = things(found)
        assert set(seen) <= {(PERSON, 48), (CAR, 80), (CAR, 128)}
        painted = found.class_ids[found.map.astype(int) - 1]
        if (PERSON, 48) not in seen:
            assert (painted[24:36, 50:54] == ROAD).all()


def test_as_many_are_missed_as_is_said_and_for_as_long():
    runs, missed, before = 0, 0, False
    frames = 4000
    truth = street((CAR, 7, slice(22, 30), slice(4, 20)))
    for found in spoilt(truth, frames=frames, missed=0.2, gap=3, seed=5):
        gone = not found.is_thing.any()
        missed += gone
        runs += gone and not before
        before = gone
    assert missed / frames == pytest.approx(0.2, abs=0.03)
    assert missed / runs == pytest.approx(3, abs=0.4)


def test_a_split_thing_is_two_that_cover_it():
    split = [found for found in spoilt(split=0.9, frames=20) if len(things(found)) > 3]
    assert split
    for found in split:
        pixels = dict.fromkeys((PERSON, CAR), 0)
        for class_id, area in things(found):
            assert area >= SMALLEST
            pixels[class_id] += area
        assert pixels == {PERSON: 48, CAR: 208}
        # Cars are wide and people high: the cut goes across.
        people = [found.boxes[k] for k in np.flatnonzero(found.class_ids == PERSON)]
        assert all((x0, x1) == (50, 54) for x0, _, x1, _ in people)


def test_only_touching_things_of_one_class_merge():
    found = [tuple(things(one)) for one in spoilt(merged=0.5, frames=40)]
    assert set(found) == {((PERSON, 48), (CAR, 80), (CAR, 128)), ((PERSON, 48), (CAR, 208))}


def test_ragged_borders_leave_things_where_they_are():
    (found,) = spoilt(ragged=1.0, seed=3)
    assert [class_id for class_id, _ in things(found)] == [PERSON, CAR, CAR]
    semantic, _ = CARS
    painted = found.class_ids[found.map.astype(int) - 1]
    wrong = painted != semantic
    assert 0 < wrong.mean() < 0.1
    assert not wrong[25:28, 8:16].any()


def test_classes_flicker_to_those_that_look_alike():
    counts = {}
    for found in spoilt(flicker=0.5, frames=60):
        for class_id, area in things(found):
            counts[area, class_id] = counts.get((area, class_id), 0) + 1
    assert set(counts) == {(48, PERSON), (48, RIDER), *((a, c) for a in (80, 128) for c in (CAR, LOOK_ALIKE[CAR]))}
    assert 15 < counts[48, RIDER] < 45


def test_the_seed_decides():
    def bytes_of(seed):
        how = {name: getattr(DEGRADED, name) for name in ("missed", "split", "merged", "ragged", "flicker")}
        return [(f.map.tobytes(), f.class_ids.tobytes()) for f in spoilt(seed=seed, frames=5, **how)]

    assert bytes_of(4) == bytes_of(4) != bytes_of(5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([TRUE, DEGRADED, Degradation(0.4, 2, 0.5, 0.5, 2.0, 0.5)]))
def test_every_segmentation_is_sound(seed, how):
    rng = np.random.default_rng(seed)
    boxes = [(rng.integers(0, 30), rng.integers(0, 50), rng.integers(1, 14), rng.integers(1, 20)) for _ in range(12)]
    kinds = [PERSON, CAR, RIDER]
    truth = street(*((kinds[i % 3], i + 1, slice(y, y + h), slice(x, x + w)) for i, (y, x, h, w) in enumerate(boxes)))
    make = Degrader(how, seed)
    for _ in range(3):
        found = make(*VISIBLE.void_small(*truth, CITYSCAPES))
        assert found.map.min() >= 1 and found.map.max() == len(found)
        assert (found.areas == np.bincount(found.map.ravel(), minlength=len(found) + 1)[1:]).all()
        stuff = found.class_ids[~found.is_thing]
        assert len(set(stuff.tolist())) == len(stuff) and set(stuff.tolist()) <= {ROAD, SKY}
        assert (found.areas[found.is_thing] >= SMALLEST).all()
        for k, (x0, y0, x1, y1) in enumerate(found.boxes.astype(int).tolist()):
            y, x = np.nonzero(found.map == k + 1)
            assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (x0, y0, x1, y1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"missed": 1.0}, "missed"), ({"split": -0.1}, "split"), ({"ragged": float("nan")}, "ragged"),
     ({"missed": 0.6, "gap": 1.0}, "gap"), ({"flicker": float("nan")}, "flicker")],
)  # fmt: skip
def test_impossible_degradations(wrong, named):
    with pytest.raises(InputError, match=named):
        Degradation(**wrong)
