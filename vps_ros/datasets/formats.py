"""The data sets by name. YouTube-VIS, whose masks overlap, has functions of its own: `youtube_vis`."""

from __future__ import annotations

from vps_ros.datasets import cityscapes, cityscapes_vps, class_images, coco, kitti_step, viper, vipseg, vspw
from vps_ros.datasets.labels import DataSet, VideoDataSet

FORMATS: dict[str, VideoDataSet] = {
    data_set.name: data_set
    for data_set in (
        kitti_step.DATA_SET,
        kitti_step.MOTCHALLENGE,
        cityscapes_vps.DATA_SET,
        vipseg.DATA_SET,
        viper.DATA_SET,
        vspw.DATA_SET,
    )
}
"""Data sets by which predictions are evaluated."""
_IMAGES = (cityscapes.DATA_SET, class_images.CAMVID, class_images.LABELME_FACADE, coco.DATA_SET)
DATA_SETS: dict[str, DataSet] = {**FORMATS, **{data_set.name: data_set for data_set in _IMAGES}}
"""Data sets with labels to train on: those, and data sets whose objects are not tracked."""
