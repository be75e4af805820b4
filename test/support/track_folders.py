"""Folders of a small street for the tests of `vps-ros track`, and runs on them."""

import subprocess
import sys

import cv2
import numpy as np

from vps_ros.commands.main import main
from vps_ros.datasets.kitti_step import list_maps, load_map, save_map

SIZE = (48, 160)
ROAD, SKY, PERSON, CAR, TRUCK, VOID = 0, 10, 11, 13, 14, 255


def street(frame):
    """(image, classes, instances): three cars drive at 4 px a frame over a textured road, a person stands."""
    rng = np.random.default_rng(3)
    semantic = np.zeros(SIZE, np.uint8)
    semantic[:10], semantic[40:] = SKY, VOID
    image = cv2.GaussianBlur(rng.integers(0, 255, (*SIZE, 3), np.uint8), (0, 0), 1.5)
    instance = np.zeros(SIZE, np.uint16)
    things = [(CAR, 5 + 50 * k + 4 * frame, 12 + 9 * k, 24, 8) for k in range(3)] + [(PERSON, 120, 11, 5, 14)]
    for number, (class_id, x, y, width, height) in enumerate(things, 1):
        inside = slice(y, y + height), slice(x, x + width)
        semantic[inside], instance[inside] = class_id, number
        skin = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3), np.uint8), (0, 0), 1)
        image[inside] = skin[:, : image[inside].shape[1]]
    return image, semantic, instance


def save_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())


def save_frame(root, sequence, frame, image, semantic, instance):
    save_image(root / f"images/{sequence}/{frame}.png", image)
    save_map(root / f"maps/{sequence}/{frame}.png", semantic, instance)


def make_folders(root):
    """Two sequences of 5 frames of the small street, instances named at random in each frame; gives the root."""
    rng = np.random.default_rng(0)
    for sequence in ("0002", "0006"):
        for i in range(5):
            image, semantic, instance = street(i)
            save_frame(root, sequence, f"{i:06d}", image, semantic, rename(instance, rng))
    return root


def rename(instance, rng, high=65535):
    """Other numbers for the same instances."""
    table = np.zeros(65536, np.uint16)
    numbers = np.unique(instance[instance > 0])
    table[numbers] = 1 + rng.choice(high, len(numbers), replace=False)
    return table[instance]


def arguments(root, *more, out="out"):
    return ["track", "--images", f"{root}/images", "--segmentation", f"{root}/maps", "-o", f"{root}/{out}",
            *map(str, more)]  # fmt: skip


def track(root, *more, out="out"):
    return main(arguments(root, *more, out=out))


def process(*args):
    command = [sys.executable, "-m", "vps_ros.commands.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def complaint(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    assert len(lines) == 1
    return lines[0]


def refused(root, capsys, *more):
    """The one line of a run that must fail and leave nothing."""
    assert track(root, *more) == 2
    assert not list(root.glob("*out*"))
    assert not list(root.glob(".*"))
    return complaint(capsys)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def ids(root, sequence="0002", out="out"):
    """For each frame of the output, {instance: (class, pixels)} of everything with an instance."""
    found = []
    for path in list_maps(root / out)[sequence].values():
        semantic, instance = load_map(path)
        numbers, first, counts = np.unique(instance, return_index=True, return_counts=True)
        classes = semantic.ravel()[first]
        rows = zip(numbers.tolist(), classes.tolist(), counts.tolist(), strict=True)
        found.append({number: (class_id, count) for number, class_id, count in rows if number})
    return found


def describe(root, where="vectors", shift=0, rng=None):
    """Embeddings of the things of the small street, which stands `shift` px further to the right in each frame.

    Rows are in the order of the street's own numbers, or in one drawn from `rng`.
    """
    directions = np.random.default_rng(7).normal(size=(5, 8))
    for sequence, paths in list_maps(root / "maps").items():
        for index, (name, path) in enumerate(paths.items()):
            semantic, instance = load_map(path)
            truth = np.roll(street(index)[2], shift * index, axis=1)
            rows = np.arange(1, 5) if rng is None else 1 + rng.permutation(4)
            codes = [int(semantic[truth == n][0]) * 65536 + int(instance[truth == n][0]) for n in rows]
            file = root / where / sequence / f"{name}.npz"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, ids=np.array(codes), embeddings=directions[rows])
