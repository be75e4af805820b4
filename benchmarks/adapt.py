"""What `vps-ros adapt` brings on a domain that the model has never seen, from unlabelled drives alone.

The domain: generated streets in another season, town and camera. Trees and grass are under snow, fog hides what is far,
and the camera has a longer lens, other colours, noise and JPEG compression. None of this is in the training of the
shipped models; the seeds are those held out for evaluation. Three drives of 12 frames are learned from, and two are
held back, on which the pipeline is compared with exact ground truth. The student is streets-s, the start its float
weights, the teacher city-s with several views.

This is a very small run: ADAPT_STEPS sets the steps of training, 40 by default.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vps_ros.commands.main import main
from vps_ros.commands.synth import write_bag
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.frame import Frame
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "a model before and after vps-ros adapt, on an unseen domain"
DRIVES = (("cruise", 900_411), ("occlusion", 900_413), ("turning", 900_414))
HELD_BACK = (("cruise", 900_421), ("occlusion", 900_422))
FRAMES, SIZE = 12, (640, 192)
CLIPS, STREETS_DRIVES = 9, 2
TEACHERS = ("city-s",)
KEPT = ("STQ", "AQ", "SQ", "PQ", "mIoU")
LENS = 1.3
FOG = np.array([196, 200, 206], np.float32)
FOG_METRES = 70.0
SNOW = np.array([222, 226, 232], np.float32)
COLOURS = np.array([[0.86, 0.10, 0.02], [0.05, 0.92, 0.06], [0.02, 0.14, 0.98]], np.float32)


def run(progress) -> dict:
    """Figures by teacher; `progress(items, label, total)` shows how far it is."""
    steps = int(os.environ.get("ADAPT_STEPS", "40"))
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = []
        for number, (name, seed) in enumerate(progress((*DRIVES, *HELD_BACK), "drives", len(DRIVES + HELD_BACK))):
            paths.append(root / f"{number}-{name}.mcap")
            write_bag(paths[-1], winter(name, seed))
        for teacher in TEACHERS:
            figures = root / f"{teacher}.json"
            words = ["adapt", *map(str, paths), "-o", str(root / f"{teacher}-adapted.onnx"), "--teacher", teacher]
            words += ["--hold-back", str(len(HELD_BACK)), "--clips", str(CLIPS), "--steps", str(steps)]
            words += ["--streets-drives", str(STREETS_DRIVES), "--no-trackers", "--json", str(figures)]
            if main(words):
                raise RuntimeError(f"vps-ros {' '.join(words)} failed")
            measured = json.loads(figures.read_text())
            found[teacher] = {name: {key: measured[name][key] for key in KEPT} for name in ("before", "after")}
    return {"steps": steps, "frames": FRAMES * len(DRIVES), "clips": CLIPS, "teachers": found}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people: quality in percent."""
    before = next(iter(figures["teachers"].values()))["before"]
    lines = [("streets-s, as shipped", 0, before)]
    steps = figures["steps"]
    lines += [(f"adapted, teacher {name}", steps, one["after"]) for name, one in figures["teachers"].items()]
    columns = ["model", "training steps", "STQ", "AQ", "SQ", "PQ", "PQ things", "mIoU"]
    return columns, [
        [name, count, *(100 * one[key] for key in ("STQ", "AQ", "SQ"))]
        + [100 * one["PQ"]["all"], 100 * one["PQ"]["things"], 100 * one["mIoU"]]
        for name, count, one in lines
    ]


def winter(name: str, seed: int) -> Iterator[StreetFrame]:
    """The frames of a drive in the other domain."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    wide, high = round(width / LENS), round(height / LENS)
    left, top = (width - wide) // 2, (height - high) // 2
    plants = [c.id for c in CITYSCAPES.classes if c.name in ("vegetation", "terrain")]
    for street in drive(name, seed, FRAMES, SIZE):
        image = street.frame.image.astype(np.float32)
        snow = np.isin(street.semantic, plants)[..., None] * np.float32(0.75)
        grey = image.mean(-1, keepdims=True)
        image = image * (1 - snow) + (0.6 * SNOW + 0.4 * grey) * snow
        near = np.exp(-np.minimum(street.depth, 1e4) / FOG_METRES)[..., None].astype(np.float32)
        image = (image * near + FOG * (1 - near)) @ COLOURS.T
        image = 255 * (np.clip(image, 0, 255) / 255) ** 0.8 + rng.normal(0, 6, image.shape)

        def enlarged(array: np.ndarray, how: int) -> np.ndarray:
            return cv2.resize(array[top : top + high, left : left + wide], SIZE, interpolation=how)

        seen = enlarged(np.clip(image, 0, 255).astype(np.uint8), cv2.INTER_LINEAR)
        data = cv2.imencode(".jpg", seen[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        seen = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        yield replace(
            street,
            frame=Frame(np.ascontiguousarray(seen), street.frame.stamp, street.frame.frame_id),
            semantic=enlarged(street.semantic, cv2.INTER_NEAREST),
            instance=enlarged(street.instance, cv2.INTER_NEAREST),
        )
