"""The formats of labelled video by name. YouTube-VIS, whose masks overlap, has functions of its own: `youtube_vis`."""

from __future__ import annotations

from vps_ros.datasets import cityscapes_vps, kitti_step, motchallenge_step, viper, vipseg, vspw
from vps_ros.datasets.labels import LabelFormat

FORMATS: dict[str, LabelFormat] = {
    module.FORMAT.name: module.FORMAT for module in (kitti_step, motchallenge_step, cityscapes_vps, vipseg, viper, vspw)
}
"""Format name -> how to read its truth and its predictions, and how to write predictions."""
