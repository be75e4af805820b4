"""Maps whose red and blue were swapped are refused, and no others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.kitti_step import check_channel_order, decode, encode
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.taxonomy import KITTI_STEP, VOID_ID

ROAD, SKY, CAR = 0, 10, 13
classes = hnp.arrays(np.uint8, (3, 5), elements=st.sampled_from([*range(19), VOID_ID]))
numbers = hnp.arrays(np.uint16, (3, 5))


def labels(semantic, instance):
    return np.where(np.isin(semantic, KITTI_STEP.thing_ids), instance, 0).astype(np.uint16)


@given(classes, numbers)
def test_maps_as_they_should_be_pass(semantic, instance):
    check_channel_order(LabelMap(semantic, labels(semantic, instance)), KITTI_STEP, "map")


@given(classes, numbers)
def test_swapped_maps_are_refused_where_they_show_stuff_that_has_a_colour(semantic, instance):
    semantic[0, 0] = SKY
    swapped = decode(encode(semantic, labels(semantic, instance))[..., ::-1].copy())
    with pytest.raises(InputError, match="map: red and blue are swapped"):
        check_channel_order(LabelMap(*swapped), KITTI_STEP, "map")


def test_numbers_on_stuff_alone_are_no_sign():
    semantic = np.array([[ROAD, SKY, CAR]], np.uint8)
    check_channel_order(LabelMap(semantic, np.array([[1, 2, 3]], np.uint16)), KITTI_STEP, "map")
