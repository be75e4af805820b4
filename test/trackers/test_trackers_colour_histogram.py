"""Appearance out of the image: a colour histogram for each thing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.datasets.streets import drive
from vps_ros.datasets.track_inputs import segments_of
from vps_ros.errors import InputError
from vps_ros.frame import Frame, Segmentation
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers.colour_histogram import SIZE, with_appearance

GREY, RED, BLUE, GREEN = (128, 128, 128), (220, 20, 20), (20, 20, 220), (20, 200, 20)


def scene(things, size=(120, 160), ground=GREY, stuff=()):
    """(Frame, Segmentation) of rectangles (x0, y0, x1, y1, colour), on plain ground."""
    image = np.empty((*size, 3), np.uint8)
    image[:] = ground
    labels = np.zeros(size, np.uint16)
    for k, (x0, y0, x1, y1, colour) in enumerate(things, 1):
        image[y0:y1, x0:x1] = colour
        labels[y0:y1, x0:x1] = k
    count = len(things)
    is_thing = np.array([k not in stuff for k in range(count)], bool)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = np.array([t[:4] for t in things], np.float32).reshape(count, 4)
    classes = np.where(is_thing, 13, 2).astype(np.int32)
    return Frame(image, 0), Segmentation(labels, classes, is_thing, np.ones(count, np.float32), areas, boxes)


def appearance(*args, **kwargs):
    return with_appearance(*scene(*args, **kwargs)).embeddings


def test_cosines_by_hand():
    """The image's own colours are looked at on every fourth row and column, which the things here keep clear of."""
    red, blue, mixed = (1, 1, 4, 3, RED), (9, 1, 12, 3, BLUE), (17, 1, 20, 3, RED)
    frame, segmentation = scene([red, blue, mixed], ground=(0, 0, 0))
    frame.image[2, 17:20] = BLUE
    found = with_appearance(frame, segmentation).embeddings
    # With colours r, b and g (ground) in different bins r - g/2 has length sqrt(5/4). The third thing is half red and
    # half blue: (r + b) / sqrt 2 - g/2.
    assert found @ found.T == pytest.approx(
        np.array(
            [
                [1, 0.25 / 1.25, (0.5**0.5 + 0.25) / 1.25],
                [0.25 / 1.25, 1, (0.5**0.5 + 0.25) / 1.25],
                [(0.5**0.5 + 0.25) / 1.25, (0.5**0.5 + 0.25) / 1.25, 1],
            ]
        ),
        abs=1e-6,
    )


def test_place_shape_and_size_do_not_matter():
    small = appearance([(5, 5, 9, 9, RED)], size=(400, 600))[0]
    for box in ((100, 50, 130, 60), (10, 10, 60, 90), (200, 100, 360, 180)):
        assert small @ appearance([(*box, RED)], size=(400, 600))[0] > 0.99


def test_a_shade_is_closer_than_another_colour():
    red, darker, blue = appearance([(1, 1, 30, 30, RED), (41, 1, 70, 30, (200, 18, 18)), (81, 1, 110, 30, BLUE)])
    assert red @ darker > 0.5
    assert red @ darker > red @ blue + 0.3


def test_other_things_do_not_matter():
    things = [(1, 1, 30, 40, RED), (50, 20, 90, 80, BLUE), (100, 60, 140, 110, GREEN)]
    frame, every = scene(things)
    alone = Segmentation(
        (every.map == 2).astype(np.uint8), *(getattr(every, n)[1:2] for n in ("class_ids", "is_thing", "scores")),
        every.areas[1:2], every.boxes[1:2],
    )  # fmt: skip
    together = with_appearance(frame, every).embeddings[1]
    assert (together == with_appearance(frame, alone).embeddings[0]).all()


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 2**16))
def test_how_segments_are_numbered_does_not_matter(order, seed):
    things = [(20 * k, 10 * k, 20 * k + 18, 10 * k + 5 + 9 * k, GREY) for k in range(6)]
    frame, segmentation = scene(things)
    frame.image[:] = np.random.default_rng(seed).integers(0, 256, frame.image.shape, np.uint8)
    plain = with_appearance(frame, segmentation).embeddings
    order = np.array(order)
    table = np.zeros(7, np.uint16)
    table[order + 1] = np.arange(1, 7)
    names = ("class_ids", "is_thing", "scores", "areas", "boxes")
    other = Segmentation(table[segmentation.map], *(getattr(segmentation, n)[order] for n in names))
    assert (with_appearance(frame, other).embeddings == plain[order]).all()


def test_stuff_is_unknown_and_things_have_length_one():
    found = appearance([(0, 0, 160, 50, BLUE), (1, 60, 30, 80, RED), (50, 60, 51, 61, RED)], stuff={0})
    assert found.shape == (3, SIZE)
    assert found.dtype == np.float32
    assert not found[0].any()
    assert np.linalg.norm(found[1:], axis=1) == pytest.approx(1, abs=1e-6)
    assert appearance([]).shape == (0, SIZE)
    assert not appearance([(0, 0, 160, 50, BLUE)], stuff={0}).any()


def test_a_thing_so_thin_that_no_pixel_is_looked_at_is_unknown():
    thin, wide = appearance([(3, 0, 4, 1200, RED), (10, 0, 20, 300, RED)], size=(1200, 32))
    assert not thin.any()
    assert np.linalg.norm(wide) == pytest.approx(1, abs=1e-6)


def test_grey_images_and_single_colours_are_finite():
    for colour in ((0, 0, 0), (255, 255, 255), GREY):
        found = appearance([(1, 1, 50, 50, colour)], ground=colour)
        assert np.isfinite(found).all()


def test_a_thousand_things():
    rng = np.random.default_rng(0)
    things = [(12 * (k % 50), 8 * (k // 50), 12 * (k % 50) + 11, 8 * (k // 50) + 7, GREY) for k in range(1000)]
    frame, segmentation = scene(things, size=(160, 600))
    colours = rng.integers(0, 256, (1001, 3)).astype(np.uint8)
    frame.image[:] = colours[segmentation.map]
    found = with_appearance(frame, segmentation).embeddings
    # Each is told from most others: few of a thousand colours are alike.
    alike = found @ found.T > 0.9
    assert alike.diagonal().all()
    assert alike.mean() < 0.05


def test_image_and_segments_of_two_sizes():
    frame, segmentation = scene([(1, 1, 5, 5, RED)])
    with pytest.raises(InputError, match=r"image \[119, 160\] and segments \[120, 160\] differ in size"):
        with_appearance(Frame(frame.image[1:], 0), segmentation)


def test_objects_of_a_drive_are_distinguished():
    """On a generated drive an object is more like itself five frames later than like others of its class."""
    shots = []
    for street in list(drive("cruise", seed=5, frames=26))[::5]:
        segments = segments_of(street.semantic, street.instance, CITYSCAPES)
        segmentation = with_appearance(street.frame, segments.segmentation)
        big = segmentation.is_thing & (segmentation.areas >= 100)
        shots.append((segments.codes[big], segmentation.class_ids[big], segmentation.embeddings[big]))
    same, other = [], []
    for (codes, classes, vectors), (later, classes_later, vectors_later) in zip(shots, shots[1:], strict=False):
        cosine = vectors @ vectors_later.T
        alike = codes[:, None] == later
        same += cosine[alike].tolist()
        other += cosine[~alike & (classes[:, None] == classes_later)].tolist()
    assert min(len(same), len(other)) > 20
    right = np.mean([s > np.array(other) for s in same])
    assert right > 0.85
