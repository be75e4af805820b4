"""What `vps-ros adapt` brings on a domain that the model has never seen, from unlabelled drives alone.

The domain: generated streets in another season, town and camera. Trees and grass are under snow, fog hides what is far,
and the camera has a longer lens, other colours, noise and JPEG compression. None of this is in the training of the
shipped models; the seeds are those held out for evaluation. Ten drives of 12 frames are learned from. Quality is that
of the pipeline on 24 other drives, 288 frames, with exact ground truth. Twelve drives of the domain that the student
knows show whether the adapted model forgets.

The student is streets-s-float. Training begins from ADAPT_START: its run, with the heads that only training has
(`config/train/streets-s.yaml` makes one), or by default the model file, which lacks them. "Statistics only" is the
teacher that the command makes: the start with the normalisation statistics of the drives, without training. "True
labels" is the upper bound: the same training with the true labels of the same frames instead of those of the teacher.
All models have thresholds that were chosen without true labels of this domain: the first two those of the student, the
others the best on the teacher's labels of the held-back frames that the command uses.

Gain of all frames: the difference from the first model of the domain, with its standard error by the jackknife over the
drives. Gain per drive: the mean of the differences of the drives, each with its own scores, and its standard error.

ADAPT_STEPS sets the steps of training. With ADAPT_FOLDER the files are kept there, and an interrupted run continues.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import yaml

from vps_ros.adaptation.steps import DATA, DATA_SET, TEACHER, TRACKED, input_size, labels_name
from vps_ros.adaptation.training import RECIPE, export, fine_tune
from vps_ros.bag_pairs import open_bags
from vps_ros.commands.main import main
from vps_ros.commands.replay import Options, replay_source
from vps_ros.commands.synth import write_bag
from vps_ros.config import Config
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.datasets.kitti_step import load_map
from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.evaluation import Evaluator, Report
from vps_ros.evaluation.pairs import evaluate_pairs
from vps_ros.files import atomic_write, model_path
from vps_ros.frame import Frame
from vps_ros.labelling.edits import CODE
from vps_ros.labelling.export import Exported, write_panoptic
from vps_ros.labelling.segments import codes_of, mask_ious
from vps_ros.learning import Reporter
from vps_ros.recording.frames import open_frames
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "a model before and after vps-ros adapt, on an unseen domain"
KINDS = ("cruise", "occlusion", "turning", "crowd", "low_rate")
DRIVES = tuple((KINDS[i % 4], 900_411 + i) for i in range(10))
HELD_BACK = tuple((KINDS[i % 5], 900_421 + i) for i in range(24))
KNOWN = HELD_BACK[:12]
FRAMES, SIZE = 12, (640, 192)
CLIPS, STREETS_DRIVES, STEPS = 30, 20, 220
TUNED = 4
"""Held-back drives that the command uses for thresholds and its report. Their true labels are not used."""
STUDENT = "streets-s-float"
KEPT = ("STQ", "AQ", "SQ", "PQ", "mIoU")
COMPARED = ("STQ", "PQ")
LENS = 1.3
FOG = np.array([196, 200, 206], np.float32)
FOG_METRES = 70.0
SNOW = np.array([222, 226, 232], np.float32)
COLOURS = np.array([[0.86, 0.10, 0.02], [0.05, 0.92, 0.06], [0.02, 0.14, 0.98]], np.float32)


def run(progress) -> dict:
    """Figures of the models; `progress(items, label, total)` shows how far it is."""
    steps = int(os.environ.get("ADAPT_STEPS", STEPS))
    start, kept = os.environ.get("ADAPT_START", STUDENT), os.environ.get("ADAPT_FOLDER")
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "known").mkdir(exist_ok=True)
        drives = [_bag(root, winter(*one), *one) for one in progress(DRIVES, "drives", len(DRIVES))]
        held = [_bag(root, winter(*one), *one) for one in progress(HELD_BACK, "held-back drives", len(HELD_BACK))]
        known = [
            _bag(root / "known", drive(name, seed, FRAMES, SIZE), name, seed)
            for name, seed in progress(KNOWN, "known drives", len(KNOWN))
        ]
        output, work = root / "adapted.onnx", root / "adapted.adapt"
        words = ["adapt", *map(str, drives + held[:TUNED]), "-o", str(output), "--student", STUDENT, "--start", start]
        words += ["--hold-back", str(TUNED), "--clips", str(CLIPS), "--steps", str(steps)]
        words += ["--streets-drives", str(STREETS_DRIVES), "--no-trackers", "--force"]
        if main(words):
            raise RuntimeError(f"vps-ros {' '.join(words)} failed")
        streets = [list(winter(*one)) for one in progress(DRIVES, "true labels", len(DRIVES))]
        labels = objects_of_labels(work, streets)
        teacher, bound = str(work / TEACHER), with_true_labels(root, work, streets, progress)
        models = {"before": STUDENT, "statistics": teacher, "after": str(output), "truth": bound}
        unseen = {n: _quality(root, m, held) for n, m in progress(models.items(), "unseen domain", len(models))}
        del models["truth"]
        of_known = {n: _quality(root, m, known) for n, m in progress(models.items(), "known domain", len(models))}
    return {
        "start": "the run of the student" if Path(start).exists() else start,
        "steps": steps,
        "frames": FRAMES * len(DRIVES),
        "evaluated": {"unseen": FRAMES * len(HELD_BACK), "known": FRAMES * len(KNOWN)},
        "clips": CLIPS,
        "labels": labels,
        "unseen": unseen,
        "known": of_known,
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people: quality and gain in percent."""
    steps = figures["steps"]
    names = {
        "before": (f"{STUDENT}, as shipped", 0),
        "statistics": ("statistics only", 0),
        "after": ("adapted", steps),
        "truth": ("true labels", steps),
    }
    quality: list[list[object]] = []
    gains: list[list[object]] = []
    for domain in ("unseen", "known"):
        first = figures[domain]["before"]
        for key, (name, count) in names.items():
            if not (one := figures[domain].get(key)):
                continue
            values = [one["STQ"], one["AQ"], one["SQ"], one["PQ"]["all"], one["PQ"]["things"], one["mIoU"]]
            quality.append([domain, name, count, *(100 * float(value) for value in values)])
            if one is not first:
                found = [value for figure in COMPARED for value in _gain(one, first, figure)]
                gains.append([domain, name, *(100 * value for value in found)])
    title = f"{DESCRIPTION}; training begins from {figures['start']}"
    columns = ["domain", "model", "training steps", "STQ", "AQ", "SQ", "PQ", "PQ things", "mIoU"]
    of_labels = [
        [name, one["objects"], 100 * one["right"] / one["objects"]]
        for name, one in zip(("as segmented", "confirmed by all views"), figures["labels"].values(), strict=True)
    ]
    of_gains = [f"{figure}, {what}" for figure in COMPARED for what in ("all frames", "error", "per drive", "error")]
    return [
        (title, columns, quality),
        ("Gain, and its standard error", ["domain", "model", *of_gains], gains),
        ("Objects in the labels of the teacher", ["labels", "objects", "right, %"], of_labels),
    ]


def _gain(one: dict, first: dict, figure: str) -> tuple[float, float, float, float]:
    """Gain of all frames with its error, and mean gain of the drives with its error; all in 0..1."""
    without = np.subtract([d[figure] for d in one["without"]], [d[figure] for d in first["without"]])
    count = len(without)
    of_drives = np.subtract([d[figure] for d in one["drives"]], [d[figure] for d in first["drives"]])
    of_all = [m["PQ"]["all"] if figure == "PQ" else m[figure] for m in (one, first)]
    return (
        of_all[0] - of_all[1],
        float(((count - 1) * without.var()) ** 0.5),
        float(of_drives.mean()),
        float(of_drives.std(ddof=1) / count**0.5),
    )


def objects_of_labels(work: Path, streets: Sequence[Sequence[StreetFrame]]) -> dict:
    """How many objects are in the teacher's labels of the chosen frames, and how many of these are right.

    An object is right if its mask IoU with a true object of the same class is above 0.5.
    """
    found = {"teacher": np.zeros(2, int), "confirmed": np.zeros(2, int)}
    for video in DATA_SETS[DATA_SET].truth(work / DATA, "train").values():
        for frame in video.values():
            assert frame.image is not None
            number, index = _place(frame.image.stem)
            name = work / TRACKED / f"{number:03d}-{DRIVES[number][0]}-{DRIVES[number][1]}" / labels_name(index)
            truth = LabelMap(streets[number][index].semantic, streets[number][index].instance)
            for key, labels in (("teacher", LabelMap(*load_map(name))), ("confirmed", _of_tracks(frame.read()))):
                found[key] += _right(labels, truth)
    return {key: {"objects": int(count), "right": int(right)} for key, (count, right) in found.items()}


def _of_tracks(labels: LabelMap) -> LabelMap:
    """With the number of the track as instance; Cityscapes-VPS adds the class."""
    return LabelMap(labels.semantic, labels.instance % CODE)


def _right(labels: LabelMap, truth: LabelMap) -> tuple[int, int]:
    """Number of objects, and of those that are right."""
    (mine, rows), (theirs, columns) = (_objects(one) for one in (labels, truth))
    same = mine[:, None] // CODE == theirs // CODE
    return len(mine), int((same & (mask_ious(rows, columns, len(mine), len(theirs)) > 0.5)).any(1).sum())


def _objects(labels: LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the objects, and their rows + 1 as a map [H, W], 0 elsewhere."""
    codes = np.where(CITYSCAPES.thing_table[labels.semantic], codes_of(labels), 0)
    found, rows = np.unique(np.append(0, codes), return_inverse=True)
    return found[1:], rows[1:].reshape(codes.shape)


def _place(stem: str) -> tuple[int, int]:
    """Number of the drive and index of the frame, of the name of an image in the data set."""
    return int(stem.split("_")[1].split("-")[0]), int(stem.split("-")[-1])


def with_true_labels(root: Path, work: Path, streets: Sequence[Sequence[StreetFrame]], progress) -> str:
    """The model of the same training, with the true labels of the frames that the teacher has labelled."""
    truth, output = root / "truth.adapt", root / "truth.onnx"
    stems = sorted(path.stem for path in (work / DATA / "train/img").iterdir())
    if not (truth / DATA).is_dir():

        def labelled() -> Iterator[tuple[str, Exported]]:
            for stem in stems:
                number, index = _place(stem)
                street = streets[number][index]
                image = work / DATA / f"train/img/{stem}.jpg"
                yield stem, Exported(index, image, LabelMap(street.semantic, street.instance))

        with atomic_write(truth / DATA) as draft:
            shutil.copytree(work / DATA, draft, ignore=shutil.ignore_patterns("train"))
            split = draft / "train"
            document = draft / "panoptic_gt_train_city_vps.json"
            write_panoptic(labelled(), CITYSCAPES, split / "img", split / "panoptic_video", document)
    recipe = yaml.safe_load((work / RECIPE).read_text())
    recipe["data"][0]["root"] = str(truth / DATA)
    reporter = Reporter(progress)
    if not fine_tune(truth, recipe, reporter):
        raise RuntimeError("the training with true labels was interrupted")
    export(truth, output, model_path(STUDENT), input_size(STUDENT), [], reporter)
    return str(output)


def _bag(root: Path, frames: Iterator[StreetFrame], name: str, seed: int) -> Path:
    path = root / f"{name}-{seed}.mcap"
    if not path.is_file():
        write_bag(path, frames)
    return path


def _quality(root: Path, model: str, drives: Sequence[Path]) -> dict:
    """Quality of the pipeline with a model on drives with ground truth: of all, of each, and of all but each."""
    each = []
    for path in drives:
        result = root / f"{path.parent.name}-{path.stem}-{Path(model).stem}.result.mcap"
        if not result.is_file():
            with open_frames(path) as source:
                replay_source(source, Config(model=model), result, Options())
        evaluator = Evaluator(CITYSCAPES)
        with open_bags(path, result, taxonomy=CITYSCAPES) as pairs:
            for _ in evaluate_pairs(pairs, evaluator):
                pass
        each.append(evaluator)
    quality = _together(each).to_json()
    alone = [_compared(one.result()) for one in each]
    without = [_compared(_together(each[:i] + each[i + 1 :])) for i in range(len(each))]
    return {key: quality[key] for key in KEPT} | {"drives": alone, "without": without}


def _together(evaluators: Sequence[Evaluator]) -> Report:
    """Of evaluators of different drives."""
    merged = Evaluator(CITYSCAPES)
    for one in evaluators:
        merged.merge(one)
    return merged.result()


def _compared(report: Report) -> dict[str, float]:
    return {"STQ": report.stq, "PQ": report.pq.all}


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
