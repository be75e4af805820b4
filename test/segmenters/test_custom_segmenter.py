"""Any function as a segmenter; masks and label maps to segments. Answers worked out by hand."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.films import scene
from vps_ros import (
    Config,
    Frame,
    InputError,
    OnlinePanoptic,
    Segmentation,
    Taxonomy,
    segmentation_from_map,
    segmentation_from_masks,
)

CLASSES = Taxonomy.from_names(["road", "sky", "car", "person"], stuff=["road", "sky"])
ROAD, SKY, CAR, PERSON = range(4)
TENTH = 100_000_000


def masks(*rows):
    return np.array(rows, bool)


def squares(image):
    """Masks of the two squares of `films.scene`, and of sky and road."""
    red, green, blue = (image[..., c] > 100 for c in range(3))
    found = masks(red & ~green & ~blue, green & ~red & ~blue, blue & ~red & ~green, red & green & blue)
    return found, [CAR, CAR, SKY, ROAD], [0.9, 0.8, 1.0, 1.0]


def run(segmenter, count=4, **options):
    pipeline = OnlinePanoptic(segmenter=segmenter, **options)
    return [pipeline.step(Frame(scene(k), k * TENTH)) for k in range(count)]


def test_the_higher_score_and_things_cover_what_overlaps():
    given_masks = masks([[1, 1, 0, 0]], [[0, 1, 1, 0]], [[1, 1, 1, 1]])
    found = segmentation_from_masks(given_masks, [CAR, PERSON, ROAD], [0.5, 0.75, 1.0], CLASSES)
    # Rows by score: road, person, car.
    assert found.class_ids.tolist() == [ROAD, PERSON, CAR]
    assert found.is_thing.tolist() == [False, True, True]
    assert found.scores.tolist() == [1.0, 0.75, 0.5]
    assert found.map.tolist() == [[3, 2, 2, 1]]
    assert found.areas.tolist() == [1, 2, 1]
    assert found.boxes.tolist() == [[3, 0, 4, 1], [1, 0, 3, 1], [0, 0, 1, 1]]
    assert found.embeddings is None


def test_stuff_of_one_class_is_one_segment_and_covered_masks_are_dropped():
    given_masks = masks([[1, 0, 0]], [[0, 1, 0]], [[0, 1, 0]], [[0, 0, 1]])
    vectors = np.arange(8).reshape(4, 2)
    found = segmentation_from_masks(given_masks, [ROAD, CAR, CAR, ROAD], [0.25, 0.5, 0.75, 0.5], CLASSES, vectors)
    assert found.class_ids.tolist() == [CAR, ROAD]
    assert found.map.tolist() == [[2, 1, 2]]
    assert found.areas.tolist() == [1, 2]
    assert found.embeddings.tolist() == [[4, 5], [6, 7]], "of the best of each"


def test_a_label_map_becomes_segments():
    found = segmentation_from_map([[0, 2], [3, 2]], np.array([CAR, PERSON, SKY]), [1, 0.5, 0.5], CLASSES)
    assert found.map.tolist() == [[0, 1], [2, 1]]
    assert found.class_ids.tolist() == [PERSON, SKY]
    assert found.boxes.tolist() == [[1, 0, 2, 2], [0, 1, 1, 2]]


def test_no_masks_at_all():
    found = segmentation_from_masks(np.zeros((0, 2, 3), bool), [], [], CLASSES)
    assert (len(found), found.map.shape, found.boxes.shape) == (0, (2, 3), (0, 4))
    assert not found.map.any()


@given(st.integers(0, 6), st.integers(0, 2**32 - 1))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_of_any_masks_each_pixel_belongs_to_one_that_covers_it(count, seed):
    rng = np.random.default_rng(seed)
    given_masks = rng.random((count, 3, 4)) < 0.4
    class_ids = rng.integers(0, 4, count).tolist()
    scores = (rng.integers(0, 17, count) / 16).tolist()
    found = segmentation_from_masks(given_masks, class_ids, scores, CLASSES)
    assert np.array_equal(found.map > 0, given_masks.any(0))
    stuff = found.class_ids[~found.is_thing].tolist()
    assert len(stuff) == len(set(stuff))
    for k, (class_id, score) in enumerate(zip(found.class_ids, found.scores, strict=True), 1):
        here = found.map == k
        assert here.sum() == found.areas[k - 1] > 0
        covering = [m for m, c in zip(given_masks, class_ids, strict=True) if c == class_id]
        assert (here <= np.any(covering, axis=0)).all()
        # No thing of a higher score is under it.
        for m, c, s in zip(given_masks, class_ids, scores, strict=True):
            if found.is_thing[k - 1] and CLASSES.by_id[c].isthing and s > score:
                assert not (here & m).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros((1, 2, 3)), [CAR], [1]), "float64.*probabilities > 0.5"),
        ((np.zeros((2, 3), bool), [CAR], [1]), r"\[2, 3\]"),
        ((np.zeros((2, 2, 3), bool), [CAR], [1]), "2 masks, but 1 class ids"),
        ((np.zeros((1, 2, 3), bool), [9], [1]), "class 9 is not in taxonomy 'custom' .*0 road"),
        ((np.zeros((1, 2, 3), bool), [1.5], [1]), "class ids"),
        ((np.zeros((1, 2, 3), bool), [CAR], [1.5]), "scores"),
        ((np.zeros((1, 2, 3), bool), [CAR], [float("nan")]), "scores"),
        ((np.zeros((1, 2, 3), bool), [CAR], [1, 1]), "scores"),
        ((np.zeros((1, 2, 3), bool), [CAR], [1], CLASSES, [[np.inf]]), "embeddings"),
        ((np.zeros((1, 2, 3), bool), [CAR], [1], CLASSES, [[1], [2]]), "embeddings"),
    ],
)
def test_masks_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        segmentation_from_masks(*arguments[:3], *(arguments[3:] or (CLASSES,)))


@pytest.mark.parametrize("labels", [[[0, 2]], [[-1, 0]], [[0.0, 1.0]], [0, 1]])
def test_label_maps_that_do_not_fit_are_refused(labels):
    with pytest.raises(InputError, match="map"):
        segmentation_from_map(labels, [CAR], [1], CLASSES)


def test_a_function_of_masks_gets_identities_that_last():
    results = run(squares, taxonomy=CLASSES)
    for k, result in enumerate(results):
        assert {t.track_id for t in result.visible} == {1, 2}
        assert result.taxonomy == CLASSES
        moving = min(result.visible, key=lambda t: t.box[0])
        assert moving.box == (4 + 6 * k, 40, 20 + 6 * k, 56)
        assert result.mask(moving).sum() == 16 * 16
        assert (result.class_map == ROAD).sum() == 32 * 96 - 2 * 16 * 16
    assert len({min(r.visible, key=lambda t: t.box[0]).track_id for r in results}) == 1


def test_a_function_of_segmentations_and_embeddings():
    def segment(image):
        return segmentation_from_masks(*squares(image), CLASSES, np.eye(4))

    for results in (run(segment, taxonomy=CLASSES), run(lambda i: (*squares(i), np.eye(4)), taxonomy=CLASSES)):
        last = results[-1]
        assert last.embeddings.shape == (4, 4)
        for track in last.visible:
            assert last.segments[track.index].track_id == track.track_id
            assert last.embeddings[track.index].argmax() == (0 if track.score > 0.85 else 1)


@pytest.mark.parametrize("tracker", ["hierarchical", "hybrid", "sort"])
def test_trackers_take_a_function_whatever_was_learned_for_the_shipped_model(tracker):
    def segment(image):
        return (*squares(image), np.eye(4))

    results = run(segment, taxonomy=CLASSES, config=Config(tracker=tracker))
    assert {t.track_id for t in results[-1].visible} == {1, 2}


def test_classes_may_be_names_a_data_set_or_an_attribute():
    def segment(image):
        return np.zeros((0, *image.shape[:2]), bool), [], []

    assert OnlinePanoptic(segmenter=segment, taxonomy=["car", "dog"]).taxonomy.thing_ids == (0, 1)
    assert OnlinePanoptic(segmenter=segment, taxonomy={4: "car"}).taxonomy.thing_ids == (4,)
    assert OnlinePanoptic(segmenter=segment, taxonomy="kitti-step").taxonomy.name == "kitti-step"
    segment.taxonomy = CLASSES
    assert OnlinePanoptic(segmenter=segment).taxonomy is CLASSES


def test_a_function_without_classes_and_classes_without_a_function():
    with pytest.raises(InputError, match="taxonomy="):
        OnlinePanoptic(segmenter=squares)
    with pytest.raises(InputError, match="segmenter=function"):
        OnlinePanoptic(taxonomy=CLASSES)
    with pytest.raises(InputError, match="cannot be called"):
        OnlinePanoptic(segmenter=7, taxonomy=CLASSES)
    with pytest.raises(InputError, match="kitti-step"):
        OnlinePanoptic(segmenter=squares, taxonomy="kitti")


def bare(count):
    """A Segmentation whose map names segment 1, with `count` classes and nothing else."""
    nothing = np.zeros(0)
    classes = np.zeros(count, np.int32)
    return Segmentation(np.ones((64, 96), np.uint8), classes, nothing, nothing, nothing, np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned NoneType"),
        ((np.zeros((1, 4, 4), bool), [CAR], [1]), "masks are 4x4, the image is 96x64"),
        ((np.zeros((1, 64, 96), bool), [9], [1]), "class 9"),
        (bare(0), r"in 0\.\.0"),
        (bare(1), "1 class_ids, but 0 is_thing"),
    ],
)
def test_what_a_function_must_not_return(returned, words):
    with pytest.raises(InputError, match=f"segmenter .*{words}"):
        run(lambda image: returned, 1, taxonomy=CLASSES)


def test_the_time_of_the_function_is_that_of_segmentation():
    def slow(image):
        time.sleep(0.05)
        return squares(image)

    times = run(slow, 2, taxonomy=CLASSES)[1].milliseconds
    assert times["segment"] >= 50
    assert set(times) == {"segment", "flow", "track", "other"}


def test_a_function_with_state_is_reset_where_a_sequence_starts():
    class Counter:
        taxonomy = CLASSES
        seen = 0

        def __call__(self, image):
            self.seen += 1
            return squares(image)

        def reset(self):
            self.seen = 0

    counter = Counter()
    pipeline = OnlinePanoptic(segmenter=counter)
    for stamp in (0, TENTH, 2 * TENTH, TENTH):
        pipeline.step(Frame(scene(0), stamp))
    assert counter.seen == 1


def test_stamps_that_are_no_nanoseconds_are_refused():
    pipeline = OnlinePanoptic(segmenter=squares, taxonomy=CLASSES)
    with pytest.raises(InputError, match="nanoseconds as an int"):
        pipeline.step(Frame(scene(0), 1.5))
    with pytest.raises(InputError, match="is a list"):
        pipeline.step(Frame([[1]], 1))
    assert pipeline.step(Frame(scene(0), np.int64(5))).stamp == 5


def test_a_tracker_that_leaves_a_thing_out_is_refused():
    pipeline = OnlinePanoptic(segmenter=squares, taxonomy=CLASSES)
    tracker = pipeline.tracker

    class Forgetful(type(tracker)):
        def __init__(self):
            pass

        def step(self, frame, segmentation):
            return tracker.step(frame, segmentation)[:1]

    pipeline.tracker = Forgetful()
    with pytest.raises(InputError, match="exactly one track"):
        pipeline.step(Frame(scene(0), 0))


def detections(image, **changed):
    """What supervision.Detections holds for the two squares of `films.scene`."""
    found, ids, scores = squares(image)
    values = {"xyxy": np.zeros((2, 4)), "mask": found[:2], "class_id": np.array(ids[:2]), "confidence": scores[:2]}
    return SimpleNamespace(**{**values, **changed})


def test_detections_of_supervision():
    of_masks = run(lambda image: tuple(values[:2] for values in squares(image)), taxonomy=CLASSES)
    of_detections = run(detections, taxonomy=CLASSES)
    for one, other in zip(of_masks, of_detections, strict=True):
        assert one.segments == other.segments and len(one.segments) == 2
        np.testing.assert_array_equal(one.map, other.map)
    supervision = pytest.importorskip("supervision")
    (empty,) = run(lambda image: supervision.Detections.empty(), count=1, taxonomy=CLASSES)
    assert empty.segments == () and not empty.map.any()


@pytest.mark.parametrize("missing", ["mask", "class_id", "confidence"])
def test_detections_that_lack_something(missing):
    with pytest.raises(InputError, match=f"whose {missing} is None"):
        run(lambda image: detections(image, **{missing: None}), count=1, taxonomy=CLASSES)
