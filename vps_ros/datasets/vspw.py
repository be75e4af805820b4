"""VSPW: the class of every pixel of a video; there are no instances.

    ROOT/data/VIDEO/mask/FRAME.png        truth: 1..124 the class id plus one; 0 (others) and 255 are void
    ROOT/data/VIDEO/origin/FRAME.jpg      camera images
    ROOT/train.txt, val.txt, test.txt     the videos of each split, one in each line
    PREDICTIONS/VIDEO/FRAME.png           class ids 0..123, as the benchmark's own baseline writes them; 255 is void

Source: Miao et al., VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild, CVPR 2021.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.folders import folders_of_split, load_classes, map_writer, png_videos, subfolders
from vps_ros.datasets.images import GREY, PALETTE, load_png
from vps_ros.datasets.labels import LabelMap, VideoDataSet, Videos, check_classes, class_table, existing_folder
from vps_ros.errors import InputError
from vps_ros.taxonomies import VSPW
from vps_ros.taxonomy import VOID_ID

_TRUTH = "a VSPW mask is grey or palette (class ids 1..124, 0 and 255 void)"
_TABLE = class_table({i + 1: i for i in VSPW.by_id} | {0: VOID_ID, VOID_ID: VOID_ID})
_PREDICTION = "a prediction for VSPW is grey or palette (class ids 0..123, 255 void)"


load_mask = partial(load_classes, table=_TABLE, expected=_TRUTH)
"""Labels of a mask of the data set; raises InputError as `load_png`, or when a value stands for no class."""


def load_prediction(path: str | Path) -> LabelMap:
    """Labels of a predicted map; raises InputError as `load_mask`."""
    values = load_png(path, (GREY, PALETTE), _PREDICTION)
    check_classes(values, VSPW, path)
    return LabelMap.without_instances(values)


def read_truth(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of the data set; videos without masks, as those of its test split, are left out.

    Raises:
        InputError: the folder holds no masks, or lacks the masks of videos of the split.
    """
    root = existing_folder(root)
    folders = {
        name: folder / "mask" for name, folder in subfolders(root / "data").items() if (folder / "mask").is_dir()
    }
    return png_videos(
        root,
        folders_of_split(folders, root, split, root / "data"),
        load_mask,
        "masks of VSPW; expected data/VIDEO/mask/FRAME.png",
        lambda v, f: root / "data" / v / "origin" / f"{f}.jpg",
    )


def read_predictions(root: str | Path, split: str | None = None) -> Videos:
    """Labelled frames of a folder of predictions; `split` is ignored."""
    root = existing_folder(root)
    return png_videos(root, subfolders(root), load_prediction, "predictions; expected VIDEO/FRAME.png")


def _encode(labels: LabelMap, where: str) -> NDArray[np.uint8]:
    """The classes of a prediction; instances are dropped."""
    semantic = np.asarray(labels.semantic)
    if semantic.ndim != 2 or semantic.dtype != np.uint8:
        raise InputError(f"{where}: classes must be uint8 [H, W]; 255 is void")
    check_classes(semantic, VSPW, where)
    return semantic


DATA_SET = VideoDataSet(
    "vspw", VSPW, read_truth, read_predictions, partial(map_writer, encode=_encode), protocol="vspw", classes_only=True
)
