"""The data sets by name. YouTube-VIS, whose masks overlap, has functions of its own: `youtube_vis`."""

from __future__ import annotations

from vps_ros.datasets import (
    camvid,
    cityscapes,
    cityscapes_vps,
    coco,
    kitti_step,
    labelmefacade,
    motchallenge_step,
    viper,
    vipseg,
    vspw,
)
from vps_ros.datasets.labels import DataSet, VideoDataSet

_VIDEO = (kitti_step, motchallenge_step, cityscapes_vps, vipseg, viper, vspw)
_IMAGES = (cityscapes, camvid, labelmefacade, coco)

FORMATS: dict[str, VideoDataSet] = {module.DATA_SET.name: module.DATA_SET for module in _VIDEO}
"""Data sets by which predictions are evaluated."""
DATA_SETS: dict[str, DataSet] = {**FORMATS, **{module.DATA_SET.name: module.DATA_SET for module in _IMAGES}}
"""Data sets with labels to train on: those, and data sets whose objects are not tracked."""
