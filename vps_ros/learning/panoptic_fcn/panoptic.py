"""Post-processing of PanopticFCN in the terms of vps_ros.segmenters.model_card."""

from __future__ import annotations

from vps_ros.learning.panoptic_fcn.architecture import Architecture
from vps_ros.segmenters.model_card import Thresholds

STUFF_PIXELS, PUBLISHED_PIXELS = 4096, 1333 * 800
"""Least segment of stuff in the release, and the images it is for."""
THING = 0.2
"""Least score of a thing in the release."""


def limits(a: Architecture, width: int, height: int) -> Thresholds:
    """The release's thresholds for images of this size.

    The score of a class must be more than an equal share of all classes and void; that of stuff is up to 1.5 of it.
    """
    share = 1 / (a.classes + 1)
    return Thresholds(
        thing=max(THING, round(2 * share, 3)),
        stuff=0.0,
        overlap=0.5,
        mask=a.mask,
        stuff_area=round(STUFF_PIXELS * width * height / PUBLISHED_PIXELS),
    )
