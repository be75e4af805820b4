"""The classes of the data sets: ids, names, things and colours as each defines them."""

from __future__ import annotations

from vps_ros.taxonomies.viper import VIPER
from vps_ros.taxonomies.wild import VIPSEG, VSPW
from vps_ros.taxonomies.youtube import YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, MOTCHALLENGE_STEP, Taxonomy

ALL: dict[str, Taxonomy] = {
    t.name: t
    for t in (KITTI_STEP, CITYSCAPES, MOTCHALLENGE_STEP, VIPSEG, VSPW, VIPER, YOUTUBE_VIS_2019, YOUTUBE_VIS_2021)
}
"""By name."""
