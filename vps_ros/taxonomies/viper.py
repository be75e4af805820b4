"""The classes of VIPER.

Source: Richter et al., Playing for Benchmarks, ICCV 2017, and its label definitions; the 13 stuff and 10 things of its
panoptic form are those of Kim et al., Video Panoptic Segmentation, CVPR 2020.
"""

from __future__ import annotations

from vps_ros.taxonomy import ClassInfo, Taxonomy

VIPER = Taxonomy(
    "viper",
    (
        ClassInfo(2, "sky", False, (70, 130, 180)),
        ClassInfo(3, "road", False, (128, 64, 128)),
        ClassInfo(4, "sidewalk", False, (244, 35, 232)),
        ClassInfo(6, "terrain", False, (152, 251, 152)),
        ClassInfo(7, "tree", False, (87, 182, 35)),
        ClassInfo(8, "vegetation", False, (35, 142, 35)),
        ClassInfo(9, "building", False, (70, 70, 70)),
        ClassInfo(10, "infrastructure", False, (153, 153, 153)),
        ClassInfo(11, "fence", False, (190, 153, 153)),
        ClassInfo(12, "billboard", False, (150, 20, 20)),
        ClassInfo(13, "trafficlight", True, (250, 170, 30)),
        ClassInfo(14, "trafficsign", False, (220, 220, 0)),
        ClassInfo(15, "mobilebarrier", False, (180, 180, 100)),
        ClassInfo(16, "firehydrant", True, (173, 153, 153)),
        ClassInfo(17, "chair", True, (168, 153, 153)),
        ClassInfo(18, "trash", False, (81, 0, 21)),
        ClassInfo(19, "trashcan", True, (81, 0, 81)),
        ClassInfo(20, "person", True, (220, 20, 60)),
        ClassInfo(23, "motorcycle", True, (0, 0, 230)),
        ClassInfo(24, "car", True, (0, 0, 142)),
        ClassInfo(25, "van", True, (0, 80, 60)),
        ClassInfo(26, "bus", True, (0, 60, 100)),
        ClassInfo(27, "truck", True, (0, 0, 70)),
    ),
)
"""The 23 evaluated classes by the ids in the data set's maps; 13 stuff, 10 things."""
IGNORED = (0, 1, 5, 21, 22, 28, 29, 30, 31)
"""Unlabeled, ambiguous, railtrack, animal, bicycle, trailer, train, plane, boat: in the maps, but not evaluated."""
