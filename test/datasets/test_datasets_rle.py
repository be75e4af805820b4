"""COCO's run lengths, against the format's description, its own library and masks of every kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.rle import RunLengths, from_json, from_mask
from vps_ros.errors import InputError


def by_definition(counts):
    """The string, value by value, from the description of the format."""
    text = ""
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        while True:
            group, x = x & 31, x >> 5
            more = x != -1 if group & 16 else x != 0
            text += chr(48 + group + 32 * more)
            if not more:
                break
    return text


def test_a_mask_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    rle = from_mask(mask)
    assert (rle.height, rle.width, rle.area) == (2, 3, 3)
    assert rle.counts.tolist() == [2, 1, 1, 2], "down the columns, background first"
    assert from_mask(~mask).counts.tolist() == [0, 2, 1, 1, 2]
    assert rle.to_json() == {"size": [2, 3], "counts": "2111"}, "the last is 2 less 1"


def test_a_string_of_the_reference_library():
    """What pycocotools 2.0.11 makes of the same ellipse."""
    y, x = np.mgrid[:12, :20]
    rle = from_mask((x - 9) ** 2 + 2 * (y - 5) ** 2 < 40)
    assert rle.to_json() == {"size": [12, 20], "counts": "X1382N2O0O2O00000001N101N2N]1"}
    assert rle.area == 89


def test_a_length_of_several_groups_by_hand():
    # 100 = 3 * 32 + 4, so groups 4 and 3: chr(48 + 32 + 4), chr(48 + 3); 16 needs a second group, for its sign.
    assert RunLengths(58, 2, np.array([100, 16])).to_json()["counts"] == "T3`0"


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_masks_come_back(mask):
    rle = from_mask(mask)
    assert rle.area == mask.sum()
    text = rle.to_json()
    assert text["counts"] == by_definition(rle.counts.tolist())
    for value in (text, {"size": list(mask.shape), "counts": rle.counts.tolist()}):
        assert (from_json(value, "here").mask() == mask).all()


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=12))
def test_any_lengths_come_back(counts):
    rle = RunLengths(sum(counts) or 1, 1, np.array(counts, np.int64))
    text = rle.to_json()
    assert text["counts"] == by_definition(counts)
    if sum(counts):
        assert from_json(text, "here").counts.tolist() == counts


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([[1, 2, 3, 4, 5, 6]], "is no run-length mask"),
        ({"counts": "2111"}, "is no run-length mask"),
        ({"size": [2], "counts": "2111"}, r"size \[2\] is not \[height, width\]"),
        ({"size": [2, True], "counts": "2111"}, "is not"),
        ({"size": [2, 3], "counts": 5}, "neither a string nor a list"),
        ({"size": [2, 3], "counts": [2, 1.5]}, "neither a string nor a list"),
        ({"size": [2, 3], "counts": "211"}, r"lengths of 4 pixels, but its size is 2 \* 3; is it cut off"),
        ({"size": [2, 3], "counts": [8, -2]}, "a negative length"),
        ({"size": [2, 3], "counts": "211é"}, "no run-length string"),
        ({"size": [2, 3], "counts": "211T"}, "cut off"),
        ({"size": [2, 3], "counts": "o" * 8 + "0"}, "beyond every image"),
        ({"size": [2, 3], "counts": ""}, "lengths of 0 pixels"),
    ],
)
def test_broken_masks_are_refused_in_one_line(value, reason):
    with pytest.raises(InputError, match=rf"^here: .*{reason}") as error:
        from_json(value, "here")
    assert "\n" not in str(error.value)
