"""Bags at URIs as items of work, and refusals in one line."""

import pytest

from vps_ros.errors import InputError
from vps_ros.fleet.bags import find_bags
from vps_ros.fleet.work import Item


def refusal(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def items(*uris):
    return [Item(bag) for bag in find_bags(map(str, uris)).values()]
