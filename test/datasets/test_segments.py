"""Panoptic maps as segments, and the embeddings beside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vps_ros.datasets.track_inputs import load_embeddings, segments_of
from vps_ros.errors import InputError
from vps_ros.label_maps import look_up
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP


def maps(*rows):
    """A map of words such as `13.7` (class 13, instance 7), `0` (class 0, instance 0) and `.` (void)."""
    cells = [["255" if c == "." else c for c in row.split()] for row in rows]
    pairs = [[(*map(int, c.split(".")), 0)[:2] for c in row] for row in cells]
    found = np.array(pairs)
    return found[..., 0].astype(np.uint8), found[..., 1].astype(np.uint16)


def test_segments_by_hand():
    found = segments_of(
        *maps(
            "10 10 10 13.9 . .",
            "0 13.9 0 13.9 0 11.4",
            "0 0 11.0 11.0 13.300 13.300",
            "0.7 13.9 . 14.2 14.3 0",
        ),
        KITTI_STEP,
    )
    # By class, then by first pixel. Truck (14) is stuff in KITTI-STEP: its instances are one segment.
    assert found.codes.tolist() == [
        0, 10 * 65536, 11 * 65536 + 4, 11 * 65536, 13 * 65536 + 9, 13 * 65536 + 300, 14 * 65536,
    ]  # fmt: skip
    segmentation = found.segmentation
    assert segmentation.class_ids.tolist() == [0, 10, 11, 11, 13, 13, 14]
    assert segmentation.is_thing.tolist() == [False, False, True, False, True, True, False]
    assert segmentation.areas.tolist() == [7, 3, 1, 2, 4, 2, 2]
    # One car in three pieces has one box.
    assert segmentation.boxes.tolist() == [
        [0, 1, 6, 4], [0, 0, 3, 1], [5, 1, 6, 2], [2, 2, 4, 3], [1, 0, 4, 4], [4, 2, 6, 3], [3, 3, 5, 4],
    ]  # fmt: skip
    assert segmentation.map.tolist() == [
        [2, 2, 2, 5, 0, 0], [1, 5, 1, 5, 1, 3], [1, 1, 4, 4, 6, 6], [1, 5, 0, 7, 7, 1],
    ]  # fmt: skip
    assert found.crowds == {11}
    assert found.numbered_stuff == {0, 14}


def test_the_taxonomy_says_what_a_thing_is():
    found = segments_of(*maps("14.2 14.3 13.0"), CITYSCAPES)
    assert found.segmentation.is_thing.tolist() == [False, True, True]
    assert found.crowds == {13}
    assert not found.numbered_stuff


def test_nothing_but_void():
    found = segments_of(*maps(". . .", ". . ."), KITTI_STEP)
    assert len(found.segmentation) == 0
    assert found.segmentation.boxes.shape == (0, 4)
    assert not found.segmentation.map.any()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_against_masks_one_by_one(data):
    shape = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    semantic = data.draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 11, 13, 14, 255])))
    instance = data.draw(arrays.arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 65535])))
    found = segments_of(semantic, instance, KITTI_STEP)
    segmentation = found.segmentation
    assert ((segmentation.map == 0) == (semantic == 255)).all()
    for k, code in enumerate(found.codes):
        class_id, number = divmod(int(code), 65536)
        mask = semantic == class_id
        if class_id in KITTI_STEP.thing_ids:
            mask &= instance == number
        assert ((segmentation.map == k + 1) == mask).all()
        y, x = np.nonzero(mask)
        assert segmentation.areas[k] == len(y)
        assert segmentation.boxes[k].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert segmentation.is_thing[k] == (class_id in KITTI_STEP.thing_ids and number > 0)


@settings(max_examples=40, deadline=None)
@given(st.permutations([1, 2, 3, 700, 65535]))
def test_names_of_instances_do_not_matter(names):
    semantic, instance = maps("13.1 13.1 11.1 .", "13.2 11.2 0 13.3", "13.2 13.3 13.5 11.4")
    table = np.arange(65536).astype(np.uint16)
    table[1:6] = names
    one, other = (segments_of(semantic, i, KITTI_STEP).segmentation for i in (instance, table[instance]))
    for name in ("map", "class_ids", "is_thing", "areas", "boxes"):
        assert (getattr(one, name) == getattr(other, name)).all()


def test_a_thousand_segments_and_too_many():
    instance = np.arange(1, 1001, dtype=np.uint16).reshape(20, 50)
    found = segments_of(np.full((20, 50), 13, np.uint8), instance, KITTI_STEP)
    assert (found.segmentation.map == instance).all()
    instance = np.arange(300 * 300).reshape(300, 300)
    semantic = np.where(instance < 45_000, 11, 13).astype(np.uint8)
    with pytest.raises(InputError, match=r"0002/7\.png: holds 90000 segments; more than 65535"):
        segments_of(semantic, (1 + instance % 45_000).astype(np.uint16), KITTI_STEP, "0002/7.png")


def test_an_unknown_class():
    with pytest.raises(InputError, match=r"^x\.png: class 21 is not one of kitti-step \(0 road, .* nor 255, void"):
        segments_of(*maps("0 21 30"), KITTI_STEP, "x.png")


def npz(path, ids, embeddings, **more):
    np.savez(path, ids=ids, embeddings=embeddings, **more)
    return path


CAR = 13 * 65536


def test_embeddings_are_found_by_id(tmp_path):
    path = npz(tmp_path / "a.npz", np.array([CAR + 9, CAR + 2, 7]), np.array([[9.0, 0], [2, 2], [7, 7]]))
    segments = segments_of(*maps("0 13.2 13.9 13.0"), KITTI_STEP)
    found = load_embeddings(path).of(segments, KITTI_STEP)
    assert found.dtype == np.float32
    assert dict(zip(segments.codes.tolist(), found.tolist(), strict=True)) == {
        0: [0, 0],
        CAR: [0, 0],
        CAR + 2: [2, 2],
        CAR + 9: [9, 0],
    }


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_embeddings_of_any_kind_of_number(tmp_path, dtype):
    found = load_embeddings(npz(tmp_path / "a.npz", np.array([1], np.uint32), np.array([[1, 2]], dtype)))
    assert found.vectors.tolist() == [[1, 2]]


def test_a_frame_without_things_needs_no_rows(tmp_path):
    segments = segments_of(*maps("0 0"), KITTI_STEP)
    for empty in (np.empty(0), np.empty((0, 8))):
        found = load_embeddings(npz(tmp_path / "a.npz", np.empty(0), empty))
        assert not found.of(segments, KITTI_STEP).any()


@pytest.mark.parametrize(
    ("ids", "vectors", "words"),
    [
        ([5, 5], np.ones((2, 3)), "id 5 occurs twice"),
        ([5, 6], np.ones((3, 3)), "2 ids but 3 embeddings"),
        ([5, 6], [[1.0, 2], [np.nan, 1]], "the embedding of id 6 holds NaN"),
        ([5, 6], [[1.0, np.inf], [1, 1]], "the embedding of id 5 holds NaN or infinity"),
        ([5], [[1e200]], "the embedding of id 5 holds NaN or infinity"),
        ([5.0], [[1.0]], "ids are float64"),
        ([[5]], [[1.0]], r"ids are int64 \[1, 1\]"),
        ([5], [1.0], r"embeddings are float64 \[1\]"),
        ([5], np.empty((1, 0)), r"embeddings are float64 \[1, 0\]"),
        ([5], [["a"]], "embeddings are <U1"),
        ([5], np.array([[None]]), "is not an NPZ file of plain arrays"),
    ],
)
def test_bad_embeddings(tmp_path, ids, vectors, words):
    with pytest.raises(InputError, match=rf"a\.npz: .*{words}"):
        load_embeddings(npz(tmp_path / "a.npz", np.array(ids), np.array(vectors)))


def test_files_that_are_no_embeddings(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, ids=np.array([1]))
    with pytest.raises(InputError, match=r"lacks an array \(embeddings"):
        load_embeddings(path)
    whole = npz(path, np.arange(50), np.random.default_rng(0).random((50, 64))).read_bytes()
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes(255 - b for b in whole[middle : middle + 9]) + whole[middle + 9 :]
    for content in (b"", b"words", whole[:middle], damaged):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not an NPZ file of plain arrays"):
            load_embeddings(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InputError, match="is not an NPZ file of plain arrays"):
        load_embeddings(path)
    with pytest.raises(InputError, match="is not an NPZ file of plain arrays"):
        load_embeddings(tmp_path / "absent.npz")


def test_a_thing_without_embedding_is_named(tmp_path):
    path = npz(tmp_path / "a.npz", np.array([CAR + 2]), np.ones((1, 4)))
    segments = segments_of(*maps("0 13.2 11.5 13.9"), KITTI_STEP)
    with pytest.raises(InputError, match=r"no embedding for id 720901 \(person 5\) and 1 more of its map"):
        load_embeddings(path).of(segments, KITTI_STEP)


@given(arrays.arrays(st.sampled_from([np.uint8, np.uint16]), (3, 4), elements=st.integers(0, 6)), st.booleans())
def test_look_up_is_indexing(labels, flags):
    """For small and large tables, of numbers and of flags."""
    for size in (7, 256, 300):
        table = (
            np.random.default_rng(size).integers(0, 2 if flags else 60000, size).astype(bool if flags else np.uint16)
        )
        found = look_up(labels, table)
        assert found.dtype == table.dtype
        assert np.array_equal(found, table[labels])
