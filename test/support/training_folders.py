"""Small made-up data sets to learn from, in the layouts that users have: a training and a validation split, images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from vps_ros.datasets.cityscapes import LABELS
from vps_ros.datasets.coco_panoptic import encode_ids
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.datasets.kitti_step import encode
from vps_ros.datasets.vipseg import encode as encode_vipseg
from vps_ros.learning.data.clips import Picture
from vps_ros.taxonomy import VOID_ID, Taxonomy

SIZE = (128, 64)
FRAMES = 4
CLASSES = {
    "vipseg": ("sky", "road", "person", "car"),
    "vspw": ("sky", "road", "person", "car"),
    "motchallenge-step": ("sky", "sidewalk", "person", "bicycle"),
}
"""Two classes of stuff and two more, by name, where a data set has no sky, road, person and car."""


def class_ids(form: str) -> list[int]:
    ids = {c.name: c.id for c in DATA_SETS[form].taxonomy.classes}
    return [ids[name] for name in CLASSES.get(form, ("sky", "road", "person", "car"))]


def scene(form: str, video: int, index: int) -> Picture:
    """Boxes move over two halves; void on the right, and a crowd below it where the format has crowds."""
    taxonomy = DATA_SETS[form].taxonomy
    sky, road, person, car = class_ids(form)
    w, h = SIZE
    image, semantic = np.empty((h, w, 3), np.uint8), np.empty((h, w), np.uint8)
    instance = np.zeros((h, w), np.uint16)
    image[: h // 2], image[h // 2 :] = (120, 170, 230), (90, 80, 90)
    semantic[: h // 2], semantic[h // 2 :] = sky, road
    boxes = [(8, 32, car, 1, (220, 220, 210)), (64, 16, person, 2, (30, 20, 20)), (88, 16, person, 3, (200, 40, 40))]
    for x, width, class_id, number, colour in boxes:
        box = np.s_[20:52, x + 4 * video + 2 * index : x + 4 * video + 2 * index + width]
        image[box], semantic[box], instance[box] = colour, class_id, number
    semantic[:, -8:], instance[:, -8:] = VOID_ID, 0
    if form not in ("vipseg", "vspw", "motchallenge-step"):
        semantic[-12:, -8:] = person
    instance[~np.isin(semantic, taxonomy.thing_ids)] = 0
    return Picture(image, semantic, instance)


def build(form: str, root: Path, splits: Mapping[str, tuple[str, ...]] | None = None) -> Path:
    """Writes two videos to learn from and one to validate on; gives the folder."""
    for number, (split, videos) in enumerate((splits or SPLITS.get(form, DEFAULT)).items()):
        for v, video in enumerate(videos):
            frames = {_frame_name(form, video, i): scene(form, v + 2 * number, i) for i in range(FRAMES)}
            WRITERS[form](root, split, video, frames)
    return root


DEFAULT = {"train": ("0000", "0001"), "val": ("0002",)}
SPLITS = {
    "motchallenge-step": {"train": ("0002", "0009"), "test": ("0001",)},
    "viper": {"train": ("001", "002"), "val": ("003",)},
    "cityscapes": {"train": ("aachen",), "val": ("ulm",)},
}


def _frame_name(form: str, video: str, i: int) -> str:
    if form == "cityscapes-vps":
        return f"{video}_{5 * i:04d}_city_000000_{i:06d}"
    if form == "cityscapes":
        return f"{video}_000000_{i:06d}"
    return f"{video}_{i:05d}" if form == "viper" else f"{i:06d}"


def _put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def _step(root: Path, split: str, video: str, frames: Mapping[str, Picture]) -> None:
    for name, p in frames.items():
        _put(root / f"panoptic_maps/{split}/{video}/{name}.png", encode(p.semantic, p.instance))
        _put(root / f"images/{split}/{video}/{name}.png", p.image)


def _cityscapes_vps(root: Path, split: str, video: str, frames: Mapping[str, Picture]) -> None:
    path = root / f"panoptic_gt_{split}_city_vps.json"
    document = json.loads(path.read_text()) if path.is_file() else {"images": [], "annotations": []}
    for name, p in frames.items():
        # Ids beyond 16 bits, as the data set's own.
        ids = np.where(p.semantic == VOID_ID, 0, (p.semantic.astype(int) + 1) * 70_000 + p.instance)
        infos = [
            {"id": n, "category_id": n // 70_000 - 1, "iscrowd": int(n // 70_000 - 1 > 10 and n % 70_000 == 0)}
            for n in np.unique(ids[ids > 0]).tolist()
        ]
        document["images"].append({"id": name, "file_name": f"{name}_leftImg8bit.png"})
        document["annotations"].append({"image_id": name, "file_name": f"{name}.png", "segments_info": infos})
        _put(root / f"{split}/panoptic_video/{name}.png", encode_ids(ids))
        _put(root / f"{split}/img/{name}_leftImg8bit.png", p.image)
    path.write_text(json.dumps(document))


def _cityscapes(root: Path, split: str, video: str, frames: Mapping[str, Picture]) -> None:
    for name, p in frames.items():
        labels = np.append(np.array(LABELS), np.zeros(VOID_ID + 1 - len(LABELS), int))[p.semantic]
        codes = np.where(p.instance > 0, labels * 1000 + p.instance.astype(int) - 1, labels)
        _put(root / f"gtFine/{split}/{video}/{name}_gtFine_instanceIds.png", codes.astype(np.uint16))
        _put(root / f"leftImg8bit/{split}/{video}/{name}_leftImg8bit.png", p.image)


def _vipseg(root: Path, split: str, video: str, frames: Mapping[str, Picture]) -> None:
    for name, p in frames.items():
        _put(root / f"panomasks/{video}/{name}.png", encode_vipseg(p.semantic, p.instance))
        _put(root / f"imgs/{video}/{name}.jpg", p.image)
    _list(root, split, video)


def _viper(root: Path, split: str, video: str, frames: Mapping[str, Picture]) -> None:
    for name, p in frames.items():
        _put(root / f"{split}/cls/{video}/{name}.png", np.where(p.semantic == VOID_ID, 0, p.semantic).astype(np.uint8))
        thing = np.where(p.instance > 0, p.semantic, 0)
        rgb = np.stack([thing, p.instance >> 8, p.instance & 255], -1)
        _put(root / f"{split}/inst/{video}/{name}.png", rgb.astype(np.uint8))
        _put(root / f"{split}/img/{video}/{name}.jpg", p.image)


def _vspw(root: Path, split: str, video: str, frames: Mapping[str, Picture]) -> None:
    for name, p in frames.items():
        codes = np.where(p.semantic == VOID_ID, VOID_ID, p.semantic + 1).astype(np.uint8)
        _put(root / f"data/{video}/mask/{name}.png", codes)
        _put(root / f"data/{video}/origin/{name}.jpg", p.image)
    _list(root, split, video)


def _list(root: Path, split: str, video: str) -> None:
    path = root / f"{split}.txt"
    path.write_text((path.read_text() if path.is_file() else "") + f"{video}\n")


Writer = Callable[[Path, str, str, Mapping[str, Picture]], None]
WRITERS: dict[str, Writer] = {
    "kitti-step": _step,
    "motchallenge-step": _step,
    "cityscapes-vps": _cityscapes_vps,
    "cityscapes": _cityscapes,
    "vipseg": _vipseg,
    "viper": _viper,
    "vspw": _vspw,
}


def taxonomy_of(form: str) -> Taxonomy:
    return DATA_SETS[form].taxonomy
