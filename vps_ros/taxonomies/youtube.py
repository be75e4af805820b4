"""The classes of YouTube-VIS 2019 and 2021, all of them things, by the ids in its JSON files.

Source: Yang et al., Video Instance Segmentation, ICCV 2019.
"""

from __future__ import annotations

from vps_ros.taxonomy import ClassInfo, Taxonomy

_COLOURS = {
    "airplane": (106, 0, 228),
    "ape": (255, 109, 65),
    "bear": (174, 57, 255),
    "bird": (255, 109, 65),
    "boat": (0, 0, 192),
    "car": (0, 0, 142),
    "cat": (255, 77, 255),
    "cow": (120, 166, 157),
    "deer": (209, 0, 151),
    "dog": (0, 226, 252),
    "duck": (179, 0, 194),
    "eagle": (0, 228, 0),
    "earless_seal": (174, 255, 243),
    "elephant": (110, 76, 0),
    "fish": (73, 77, 174),
    "flying_disc": (250, 170, 30),
    "fox": (0, 125, 92),
    "frog": (107, 142, 35),
    "giant_panda": (0, 82, 0),
    "giraffe": (72, 0, 118),
    "hand": (250, 170, 30),
    "horse": (182, 182, 255),
    "leopard": (255, 179, 240),
    "lizard": (119, 11, 32),
    "monkey": (0, 60, 100),
    "motorbike": (0, 0, 230),
    "mouse": (130, 114, 135),
    "owl": (188, 208, 182),
    "parrot": (165, 42, 42),
    "person": (220, 20, 60),
    "rabbit": (100, 170, 30),
    "sedan": (0, 0, 142),
    "shark": (183, 130, 88),
    "skateboard": (134, 134, 103),
    "snake": (5, 121, 0),
    "snowboard": (133, 129, 255),
    "squirrel": (188, 208, 182),
    "surfboard": (145, 148, 174),
    "tennis_racket": (255, 208, 186),
    "tiger": (166, 196, 102),
    "train": (0, 80, 100),
    "truck": (0, 0, 70),
    "turtle": (0, 143, 149),
    "whale": (0, 228, 0),
    "zebra": (199, 100, 0),
}
_2019 = """
    person giant_panda lizard parrot skateboard sedan ape dog snake monkey hand rabbit duck cat cow fish train
    horse turtle bear motorbike giraffe leopard fox deer owl surfboard airplane truck zebra tiger elephant
    snowboard boat shark mouse frog eagle earless_seal tennis_racket
"""
_2021 = """
    airplane bear bird boat car cat cow deer dog duck earless_seal elephant fish flying_disc fox frog
    giant_panda giraffe horse leopard lizard monkey motorbike mouse parrot person rabbit shark skateboard snake
    snowboard squirrel surfboard tennis_racket tiger train truck turtle whale zebra
"""


def _things(name: str, names: str) -> Taxonomy:
    return Taxonomy(name, tuple(ClassInfo(i, n, True, _COLOURS[n]) for i, n in enumerate(names.split(), 1)))


YOUTUBE_VIS_2019 = _things("youtube-vis-2019", _2019)
YOUTUBE_VIS_2021 = _things("youtube-vis-2021", _2021)
"""40 classes each, ids 1..40."""
