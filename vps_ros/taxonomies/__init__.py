"""The classes of the data sets: ids, names, things and colours as each defines them."""

from __future__ import annotations

from vps_ros.taxonomies.ade20k import ADE20K
from vps_ros.taxonomies.coco import COCO_PANOPTIC
from vps_ros.taxonomies.mapillary import MAPILLARY_VISTAS
from vps_ros.taxonomies.viper import VIPER
from vps_ros.taxonomies.wild import VIPSEG, VSPW
from vps_ros.taxonomies.youtube import YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, MOTCHALLENGE_STEP, Taxonomy

ALL: dict[str, Taxonomy] = {
    t.name: t
    for t in (
        KITTI_STEP,
        CITYSCAPES,
        MOTCHALLENGE_STEP,
        VIPSEG,
        VSPW,
        VIPER,
        YOUTUBE_VIS_2019,
        YOUTUBE_VIS_2021,
        COCO_PANOPTIC,
        ADE20K,
        MAPILLARY_VISTAS,
    )
}
"""By name."""
