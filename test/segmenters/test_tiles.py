"""Segments of overlapping crops, joined: scenes of colours whose segments are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.segmenters import FunctionSegmenter, as_segmenter, load_segmenter, segmentation_from_map
from vps_ros.segmenters.segmenter import Segmenter
from vps_ros.segmenters.tiles import TiledSegmenter, columns
from vps_ros.taxonomy import Taxonomy

TAXONOMY = Taxonomy.from_names(["car", "bus", "road", "sky"], ["road", "sky"])
CAR, BUS, ROAD, SKY = range(4)
WIDTH, HEIGHT = 140, 20
"""Two crops of 80 pixels, which share columns 60 to 79."""


def by_colour(image):
    """Each colour is a segment: red is the class, green the score in percent, blue tells objects apart."""
    flat = image.reshape(-1, 3)
    colours, labels = np.unique(flat, axis=0, return_inverse=True)
    kept = np.flatnonzero(colours[:, 1] > 0)
    table = np.zeros(len(colours), int)
    table[kept] = np.arange(1, len(kept) + 1)
    labels = table[labels.reshape(-1)].reshape(image.shape[:2])
    rows = colours[kept]
    return segmentation_from_map(labels, rows[:, 0], rows[:, 1] / 100, TAXONOMY, rows.astype(float))


def tiled(tiles, function=by_colour):
    return TiledSegmenter(as_segmenter(function, TAXONOMY), tiles)


def scene(*objects, width=WIDTH):
    """Road below sky, and objects ((x0, x1), class, score in percent, number) in rows 5 to 14."""
    image = np.zeros((HEIGHT, width, 3), np.uint8)
    image[:10], image[10:] = (SKY, 60, 0), (ROAD, 70, 0)
    for (x0, x1), kind, score, number in objects:
        image[5:15, x0:x1] = kind, score, number
    return image


def described(found):
    """(class, score in percent, box) of each segment, and the map with those as values."""
    return {
        (int(c), round(100 * float(s)), *map(int, box))
        for c, s, box in zip(found.class_ids, found.scores, found.boxes, strict=True)
    }


def equal(a, b):
    """Whether two segmentations have the same segments, whatever their order."""
    if described(a) != described(b):
        return False
    pairs = np.unique(np.stack([a.map.ravel(), b.map.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(a.map)) == len(np.unique(b.map))


def test_crops_have_one_width_share_a_quarter_and_cover_the_image():
    assert columns(140, 2) == [slice(0, 80), slice(60, 140)]
    assert columns(100, 1) == [slice(0, 100)]
    for width in (1, 2, 7, 1242, 1920):
        for tiles in (1, 2, 3, 5):
            crops = columns(width, tiles)
            assert len(crops) == tiles and len({c.stop - c.start for c in crops}) == 1
            assert crops[0].start == 0 and crops[-1].stop == width
            assert all(a.start <= b.start <= a.stop for a, b in zip(crops[:-1], crops[1:], strict=True))
            if width > 100 and tiles > 1:
                shared = [a.stop - b.start for a, b in zip(crops[:-1], crops[1:], strict=True)]
                assert np.abs(np.array(shared) - 0.25 * (crops[0].stop - crops[0].start)).max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 90), st.sampled_from([CAR, BUS]), st.integers(1, 100))),
)
def test_a_perfect_segmenter_gives_the_same_segments_with_any_number_of_tiles(tiles, objects):
    image = scene(*(((x, x + w), kind, score, n + 1) for n, (x, w, kind, score) in enumerate(objects)), width=260)
    # A crop sees a part of an object if it is visible there; no object may have a second part of its colour.
    expected = by_colour(image)
    for row in range(len(expected)):
        mask = expected.map == row + 1
        rows = np.flatnonzero(mask.any(0))
        if expected.is_thing[row] and (np.diff(rows) > 1).any():
            image[mask] = 0
    assert equal(tiled(tiles)(image), by_colour(image))


def test_an_object_in_both_crops_is_one_with_the_class_score_and_embedding_of_the_better_part():
    """Each crop sees the bus in another colour: the right one with the higher score, as a car."""

    def differing(image):
        image = image.copy()
        if (image[0, 0] == (SKY, 60, 9)).all():
            image[(image == (BUS, 40, 1)).all(2)] = (CAR, 80, 5)
        return by_colour(image)

    image = scene(((50, 100), BUS, 40, 1))
    image[0, 60] = SKY, 60, 9
    found = tiled(2, differing)(image)
    (row,) = np.flatnonzero(found.is_thing)
    assert found.boxes[row].tolist() == [50, 5, 100, 15] and found.areas[row] == 500
    assert found.class_ids[row] == CAR and found.scores[row] == pytest.approx(0.8)
    assert found.embeddings[row].tolist() == [CAR, 80, 5]


def test_a_cut_view_of_an_object_is_dropped_even_with_a_higher_score():
    """Of a car in columns 65 to 99, the left crop recognises columns 73 to 79 only, so that the views are not one."""

    def differing(image):
        image = image.copy()
        if not (image[0, 0] == (SKY, 60, 9)).all():
            car = (image == (CAR, 60, 1)).all(2)
            car[:, :73] = False
            image[(image == (CAR, 60, 1)).all(2)] = 0
            image[car] = CAR, 90, 2
        return by_colour(image)

    image = scene(((65, 100), CAR, 60, 1))
    image[0, 60] = SKY, 60, 9
    found = tiled(2, differing)(image)
    (row,) = np.flatnonzero(found.is_thing)
    assert found.boxes[row].tolist() == [65, 5, 100, 15] and found.scores[row] == pytest.approx(0.6)


def test_touching_cars_at_the_seam_stay_two():
    found = tiled(2)(scene(((55, 70), CAR, 80, 1), ((70, 95), CAR, 70, 2)))
    boxes = sorted(found.boxes[found.is_thing].tolist())
    assert boxes == [[55, 5, 70, 15], [70, 5, 95, 15]]


def test_stuff_is_of_the_nearer_crop_and_where_that_is_void_of_the_other():
    """The left crop sees no sky, the right one no road; columns below 70 are of the left crop."""

    def differing(image):
        image = image.copy()
        image[: 10 if not (image[0, 0] == (SKY, 60, 9)).all() else 0] = 0
        if (image[0, 0] == (SKY, 60, 9)).all():
            image[10:] = SKY, 50, 0
        return by_colour(image)

    image = scene()
    image[0, 60] = SKY, 60, 9
    found = tiled(2, differing)(image)
    sky, road = (found.map == 1 + int(np.flatnonzero(found.class_ids == c)[0]) for c in (SKY, ROAD))
    assert not sky[:, :60].any() and sky[:10, 60:].all() and sky[10:, 70:].all() and not sky[10:, :70].any()
    assert road[10:, :70].all() and not road[10:, 70:].any()


def test_it_is_a_segmenter_and_the_parameter_makes_it():
    segmenter = load_segmenter(Config(tiles=2, threads=1).segmenter_parameters)
    assert isinstance(segmenter, TiledSegmenter) and isinstance(segmenter, Segmenter)
    found = segmenter(np.zeros((60, 200, 3), np.uint8))
    assert found.map.shape == (60, 200) and set(segmenter.milliseconds) == {"preprocess", "network", "postprocess"}
    assert not isinstance(load_segmenter(Config(threads=1).segmenter_parameters), TiledSegmenter)


def test_crops_are_one_batch_where_the_network_accepts_one():
    runs = []

    class Batched(FunctionSegmenter):
        batched = True

        def run_ahead(self, images):
            runs.append([id(image) for image in images])

        def __call__(self, image):
            assert id(image) == runs[-1].pop(0), "the crop of the batch itself"
            return super().__call__(image)

    image = scene(((50, 100), BUS, 40, 1))
    assert equal(TiledSegmenter(Batched(by_colour, TAXONOMY), 3)(image), by_colour(image))
    assert runs == [[]]


def test_recurrent_models_are_refused():
    class Remembers:
        def __call__(self, image):
            return by_colour(image)

        def reset(self):
            pass

    with pytest.raises(InputError, match="tiles: 2: Remembers keeps state from frame to frame"):
        tiled(2, Remembers())
