"""A small video of every data set as users have it on disk, made by hand here; predictions by the formats' writers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.viper import CATEGORIES
from vps_ros.datasets.vipseg import write_masks
from vps_ros.taxonomies import VIPER
from vps_ros.taxonomy import VOID_ID

Frames = Mapping[str, LabelMap]


def put(path: Path, pixels: np.ndarray) -> None:
    """Writes grey [H, W], or R, G, B."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def in_bytes(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)


@dataclass(frozen=True)
class DataSet:
    """How one data set lies on disk.

    Attributes:
        form: its format.
        stuff, thing: two of its classes; `thing` of VSPW is stuff as well.
        video, names: of the video and its frames.
        split: of the data set that the video is in.
        truth, prediction: (root, frames) -> written.
        truth_map, predicted_map: frame -> its file, in the root.
        document: of the truth, where a JSON names its frames.
    """

    form: str
    stuff: int
    thing: int
    video: str
    names: tuple[str, ...]
    split: str
    truth: Callable[[Path, Frames], None]
    prediction: Callable[[Path, Frames], None]
    truth_map: Callable[[str], str]
    predicted_map: Callable[[str], str]
    document: str = ""

    def scene(self, index: int, switch: int = 0) -> LabelMap:
        """Stuff, two things of 4 and 2 pixels that move right, void; the smaller one has number 2 + `switch`."""
        semantic, instance = np.full((4, 8), self.stuff, np.uint8), np.zeros((4, 8), np.uint16)
        semantic[:2, index : index + 2], instance[:2, index : index + 2] = self.thing, 1
        semantic[3, index : index + 2], instance[3, index : index + 2] = self.thing, 2 + switch
        semantic[:, 7] = VOID_ID
        if not FORMATS[self.form].taxonomy.thing_ids:
            instance[:] = 0
        return LabelMap(semantic, instance)

    def frames(self, *switches: int) -> dict[str, LabelMap]:
        return {name: self.scene(i, (switches or (0,) * 4)[i]) for i, name in enumerate(self.names)}

    def build(self, root: Path) -> Path:
        """ROOT/gt and ROOT/pred, equal but for the number of the smaller thing in the last frame."""
        self.truth(root / "gt", self.frames())
        self.prediction(root / "pred", self.frames(0, 0, 0, 1))
        return root

    def drop_prediction(self, root: Path, frame: str) -> None:
        _drop(root / "pred", self.predicted_map(frame), "pred.json", frame)

    def drop_truth(self, root: Path, frame: str) -> None:
        _drop(root / "gt", self.truth_map(frame), self.document, frame)


def _drop(root: Path, file: str, document: str, frame: str) -> None:
    (root / file).unlink()
    path = root / document
    if document and path.is_file():
        content = json.loads(path.read_text())
        lists = [v["annotations"] for v in content["annotations"] if "annotations" in v] or [content["annotations"]]
        for annotations in lists:
            annotations[:] = [a for a in annotations if a["image_id"] != frame]
        path.write_text(json.dumps(content))


def _step(folder: str) -> Callable[[Path, Frames], None]:
    def write(root: Path, frames: Frames) -> None:
        for name, (semantic, instance) in frames.items():
            put(root / folder / f"{name}.png", np.stack([semantic, instance >> 8, instance & 255], -1).astype(np.uint8))

    return write


def _segments(labels: LabelMap) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Ids of a map, class * 1000 + instance + 1, and (id, class) of each."""
    ids = np.where(labels.semantic == VOID_ID, 0, labels.semantic.astype(int) * 1000 + labels.instance + 1)
    return ids, [(n, (n - 1) // 1000) for n in np.unique(ids[ids > 0]).tolist()]


def _annotation(frame: str, file: str, rows: list[tuple[int, int]]) -> dict:
    infos = [{"id": n, "category_id": category, "iscrowd": 0} for n, category in rows]
    return {"image_id": frame, "file_name": file, "segments_info": infos}


def _cityscapes(root: Path, frames: Frames) -> None:
    annotations = []
    for name, labels in frames.items():
        ids, rows = _segments(labels)
        put(root / f"val/panoptic_video/{name}_color.png", in_bytes(ids))
        annotations.append(_annotation(name, f"{name}_color.png", rows))
    images = [{"id": name, "file_name": f"{name}.png"} for name in frames]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": FORMATS["cityscapes-vps"].taxonomy.to_json(),
    }
    (root / "panoptic_gt_val_city_vps.json").write_text(json.dumps(document))


def _vipseg(root: Path, frames: Frames) -> None:
    things = FORMATS["vipseg"].taxonomy.thing_ids
    for name, (semantic, instance) in frames.items():
        category = semantic.astype(np.uint16) + 1
        codes = np.where(np.isin(semantic, things), category * 100 + instance - 1, category)
        put(root / f"panomasks/1_a/{name}.png", np.where(semantic == VOID_ID, 0, codes).astype(np.uint16))
    (root / "val.txt").write_text("1_a\n")


def _vipseg_converted(root: Path, frames: Frames) -> None:
    annotations = []
    for name, labels in frames.items():
        ids, rows = _segments(labels)
        put(root / f"panomasksRGB/1_a/{name}.png", in_bytes(ids))
        annotations.append(_annotation(name, f"{name}.png", rows))
    document = {"annotations": [{"video_id": "1_a", "annotations": annotations}]}
    (root / "panoptic_gt_VIPSeg_val.json").write_text(json.dumps(document))


def _viper(root: Path, frames: Frames) -> None:
    for name, (semantic, instance) in frames.items():
        put(root / f"val/cls/001/{name}.png", np.where(semantic == VOID_ID, 0, semantic).astype(np.uint8))
        inst = np.stack([semantic, instance >> 8, instance & 255], -1) * (instance > 0)[..., None]
        put(root / f"val/inst/001/{name}.png", inst.astype(np.uint8))


def _viper_panoptic(root: Path, frames: Frames) -> None:
    annotations = []
    for name, labels in frames.items():
        ids, rows = _segments(labels)
        put(root / f"val_day/panoptic_video/{name}.png", in_bytes(ids))
        rows = [(n, CATEGORIES.index(VIPER.by_id[number].name)) for n, number in rows]
        annotations.append(_annotation(name, f"{name}.png", rows))
    categories = [{"id": i, "name": name} for i, name in enumerate(CATEGORIES)]
    document = {"images": [], "annotations": annotations, "categories": categories}
    (root / "viper_panoptic_val_day_video.json").write_text(json.dumps(document))


def _vspw(root: Path, frames: Frames) -> None:
    for name, (semantic, _) in frames.items():
        put(root / f"data/1_a/mask/{name}.png", np.where(semantic == VOID_ID, 0, semantic + 1).astype(np.uint8))
    (root / "val.txt").write_text("1_a\n")


def _writer(opened: Callable, video: str) -> Callable[[Path, Frames], None]:
    def write(root: Path, frames: Frames) -> None:
        with opened(root, False) as writer:
            for name, labels in frames.items():
                writer.add(video, name, labels)

    return write


def _names(form: str) -> tuple[str, ...]:
    return tuple(form.format(i) for i in range(4))


STEP, CITY, WILD, GAME = map(_names, ("{:06d}", "0005_{:04d}_town", "{:08d}", "001_{:05d}"))


def _data_set(form, stuff, thing, video, names, split, truth, truth_map, predicted_map, document="", opened=None):
    write = _writer(opened or FORMATS[form].writer, video)
    return DataSet(
        form,
        stuff,
        thing,
        video,
        names,
        split,
        truth,
        write,
        lambda f: truth_map.format(f),
        lambda f: predicted_map.format(f),
        document,
    )


KITTI_MAPS, MOT_MAPS = "panoptic_maps/val/0002", "panoptic_maps/train/0009"
DATA_SETS: dict[str, DataSet] = {
    "kitti-step": _data_set(
        "kitti-step", 0, 13, "0002", STEP, "val", _step(KITTI_MAPS), KITTI_MAPS + "/{}.png", "0002/{}.png"
    ),
    "motchallenge-step": _data_set(
        "motchallenge-step", 0, 4, "0009", STEP, "train", _step(MOT_MAPS), MOT_MAPS + "/{}.png", "0009/{}.png"
    ),
    "cityscapes-vps": _data_set(
        "cityscapes-vps",
        0,
        13,
        "0005",
        CITY,
        "val",
        _cityscapes,
        "val/panoptic_video/{}_color.png",
        "pan_pred/{}.png",
        "panoptic_gt_val_city_vps.json",
    ),
    "vipseg": _data_set(
        "vipseg",
        0,
        60,
        "1_a",
        WILD,
        "val",
        _vipseg,
        "panomasks/1_a/{}.png",
        "panomasks/1_a/{}.png",
        opened=write_masks,
    ),
    "vipseg, converted": _data_set(
        "vipseg",
        0,
        60,
        "1_a",
        WILD,
        "val",
        _vipseg_converted,
        "panomasksRGB/1_a/{}.png",
        "pan_pred/1_a/{}.png",
        "panoptic_gt_VIPSeg_val.json",
    ),
    "viper": _data_set("viper", 3, 24, "001", GAME, "val", _viper, "val/cls/001/{}.png", "pan_pred/{}.png"),
    "viper, panoptic": _data_set(
        "viper",
        3,
        24,
        "001",
        GAME,
        "val_day",
        _viper_panoptic,
        "val_day/panoptic_video/{}.png",
        "pan_pred/{}.png",
        "viper_panoptic_val_day_video.json",
    ),
    "vspw": _data_set("vspw", 0, 60, "1_a", WILD, "val", _vspw, "data/1_a/mask/{}.png", "1_a/{}.png"),
}
"""By name; those of one format differ in their coding."""
