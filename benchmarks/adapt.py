"""What `vps-ros adapt` brings on a domain that the model has never seen, from unlabelled drives alone.

The domain: generated streets in another season, town and camera. Trees and grass are under snow, fog hides what is far,
and the camera has a longer lens, other colours, noise and JPEG compression. None of this is in the training of the
shipped models; the seeds are those held out for evaluation. Three drives of 12 frames are learned from, and four are
held back, on which the pipeline is compared with exact ground truth. The student is streets-s, the start its float
weights. The teacher is the student with several views: the other shipped models, measured here too, are not better on
this domain, and a teacher that is not better cannot help. Two drives of the domain that the student knows show whether
the adapted model forgets.

This is a small run: ADAPT_STEPS sets the steps of training. With ADAPT_FOLDER the files are kept there, and an
interrupted run continues.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vps_ros.bag_pairs import open_bags
from vps_ros.commands.main import main
from vps_ros.commands.replay import Options, replay_source
from vps_ros.commands.synth import write_bag
from vps_ros.config import Config
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.pairs import evaluate_pairs
from vps_ros.frame import Frame
from vps_ros.recording.frames import open_frames
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "a model before and after vps-ros adapt, on an unseen domain"
DRIVES = (("cruise", 900_411), ("occlusion", 900_413), ("turning", 900_414))
HELD_BACK = (("cruise", 900_421), ("occlusion", 900_422), ("turning", 900_423), ("crowd", 900_424))
KNOWN = (("cruise", 900_431), ("occlusion", 900_432))
FRAMES, SIZE = 12, (640, 192)
CLIPS, STREETS_DRIVES, STEPS = 9, 10, 40
STUDENT, CANDIDATES = "streets-s", ("streets-s-float", "city-s")
KEPT = ("STQ", "AQ", "SQ", "PQ", "mIoU")
LENS = 1.3
FOG = np.array([196, 200, 206], np.float32)
FOG_METRES = 70.0
SNOW = np.array([222, 226, 232], np.float32)
COLOURS = np.array([[0.86, 0.10, 0.02], [0.05, 0.92, 0.06], [0.02, 0.14, 0.98]], np.float32)


def run(progress) -> dict:
    """Figures of the models; `progress(items, label, total)` shows how far it is."""
    steps = int(os.environ.get("ADAPT_STEPS", STEPS))
    kept = os.environ.get("ADAPT_FOLDER")
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drives = [_bag(root, winter(*one), *one) for one in progress(DRIVES, "drives", len(DRIVES))]
        held = [_bag(root, winter(*one), *one) for one in progress(HELD_BACK, "held-back drives", len(HELD_BACK))]
        known = [_bag(root, drive(*one, FRAMES, SIZE), *one) for one in progress(KNOWN, "known drives", len(KNOWN))]
        output, figures = root / "adapted.onnx", root / "adapted.json"
        words = ["adapt", *map(str, drives + held), "-o", str(output), "--student", STUDENT, "--force"]
        words += ["--hold-back", str(len(held)), "--clips", str(CLIPS), "--steps", str(steps)]
        words += ["--streets-drives", str(STREETS_DRIVES), "--no-trackers", "--json", str(figures)]
        if main(words):
            raise RuntimeError(f"vps-ros {' '.join(words)} failed")
        adapted = json.loads(figures.read_text())
        models = {name: _kept(adapted[name]) for name in ("before", "after")}
        candidates = {name: _quality(root, name, held) for name in progress(CANDIDATES, "teachers", len(CANDIDATES))}
        before_after = progress((("before", STUDENT), ("after", str(output))), "known domain", 2)
        of_known = {name: _quality(root, model, known) for name, model in before_after}
    return {
        "steps": steps,
        "frames": FRAMES * len(DRIVES),
        "clips": CLIPS,
        "unseen": models,
        "teachers": candidates,
        "known": of_known,
    }


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people: quality in percent."""
    steps, unseen, known = figures["steps"], figures["unseen"], figures["known"]
    lines = [
        ("unseen", f"{STUDENT}, as shipped", 0, unseen["before"]),
        ("unseen", "adapted", steps, unseen["after"]),
        *(("unseen", f"{name}, as shipped", 0, one) for name, one in figures["teachers"].items()),
        ("known", f"{STUDENT}, as shipped", 0, known["before"]),
        ("known", "adapted", steps, known["after"]),
    ]
    columns = ["domain", "model", "training steps", "STQ", "AQ", "SQ", "PQ", "PQ things", "mIoU"]
    return columns, [
        [domain, name, count, *(100 * one[key] for key in ("STQ", "AQ", "SQ"))]
        + [100 * one["PQ"]["all"], 100 * one["PQ"]["things"], 100 * one["mIoU"]]
        for domain, name, count, one in lines
    ]


def _bag(root: Path, frames: Iterator[StreetFrame], name: str, seed: int) -> Path:
    path = root / f"{name}-{seed}.mcap"
    if not path.is_file():
        write_bag(path, frames)
    return path


def _quality(root: Path, model: str, drives: Sequence[Path]) -> dict:
    """Quality of the pipeline with a model on drives with ground truth."""
    evaluator = Evaluator(CITYSCAPES)
    for number, path in enumerate(drives):
        result = root / f"{Path(model).stem}-{number}.result.mcap"
        with open_frames(path) as source:
            replay_source(source, Config(model=model), result, Options(force=True))
        with open_bags(path, result, taxonomy=CITYSCAPES) as pairs:
            for _ in evaluate_pairs(pairs, evaluator):
                pass
    return _kept(evaluator.result().to_json())


def _kept(quality: dict) -> dict:
    return {key: quality[key] for key in KEPT}


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
