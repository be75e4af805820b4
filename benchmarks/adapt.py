"""What `vps-ros adapt` brings on a domain that the model has never seen, from unlabelled drives alone.

The domain: generated streets in another season, town and camera. Trees and grass are under snow, fog hides what is far,
and the camera has a longer lens, other colours, noise and JPEG compression. None of this is in the training of the
shipped models; the seeds are those held out for evaluation. Six drives of 12 frames are learned from. Quality is that
of the pipeline on 17 other drives, 204 frames, with exact ground truth. The student is streets-s-float, and so is the
teacher. Six drives of the domain that the student knows show whether the adapted model forgets.

"Statistics only" is the teacher that the command makes: the student with the normalisation statistics of the drives,
without training. "True labels" is the upper bound: the same training with the true labels of the same frames instead
of those of the teacher.

Gain: mean over the drives of the difference from the first model of the domain, and its standard error. The figures of
all frames together are not means over drives.

This is a small run: ADAPT_STEPS sets the steps of training. With ADAPT_FOLDER the files are kept there, and an
interrupted run continues.
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

from vps_ros.adaptation.steps import DATA, input_size
from vps_ros.adaptation.training import RECIPE, TEACHER, export, fine_tune
from vps_ros.bag_pairs import open_bags
from vps_ros.commands.main import main
from vps_ros.commands.replay import Options, replay_source
from vps_ros.commands.synth import write_bag
from vps_ros.config import Config
from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.pairs import evaluate_pairs
from vps_ros.files import atomic_write
from vps_ros.frame import Frame
from vps_ros.labelling.export import Exported, write_panoptic
from vps_ros.learning import Reporter
from vps_ros.recording.frames import open_frames
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "a model before and after vps-ros adapt, on an unseen domain"
KINDS = ("cruise", "occlusion", "turning", "crowd", "low_rate")
DRIVES = tuple((KINDS[i % 4], 900_411 + i) for i in range(6))
HELD_BACK = tuple((KINDS[i % 5], 900_421 + i) for i in range(17))
KNOWN = HELD_BACK[:6]
FRAMES, SIZE = 12, (640, 192)
CLIPS, STREETS_DRIVES, STEPS = 12, 20, 60
TUNED = 4
"""Held-back drives that the command uses for thresholds and its report. Their true labels are not used."""
STUDENT = "streets-s-float"
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
        (root / "known").mkdir(exist_ok=True)
        drives = [_bag(root, winter(*one), *one) for one in progress(DRIVES, "drives", len(DRIVES))]
        held = [_bag(root, winter(*one), *one) for one in progress(HELD_BACK, "held-back drives", len(HELD_BACK))]
        known = [
            _bag(root / "known", drive(*one, FRAMES, SIZE), *one) for one in progress(KNOWN, "known drives", len(KNOWN))
        ]
        output, work = root / "adapted.onnx", root / "adapted.adapt"
        words = ["adapt", *map(str, drives + held[:TUNED]), "-o", str(output), "--student", STUDENT, "--force"]
        words += ["--hold-back", str(TUNED), "--clips", str(CLIPS), "--steps", str(steps)]
        words += ["--streets-drives", str(STREETS_DRIVES), "--no-trackers"]
        if main(words):
            raise RuntimeError(f"vps-ros {' '.join(words)} failed")
        teacher, bound = str(work / TEACHER), with_true_labels(root, work, progress)
        models = {"before": STUDENT, "statistics": teacher, "after": str(output), "truth": bound}
        unseen = {n: _quality(root, m, held) for n, m in progress(models.items(), "unseen domain", len(models))}
        del models["truth"]
        of_known = {n: _quality(root, m, known) for n, m in progress(models.items(), "known domain", len(models))}
    return {
        "steps": steps,
        "frames": FRAMES * len(DRIVES),
        "evaluated": {"unseen": FRAMES * len(HELD_BACK), "known": FRAMES * len(KNOWN)},
        "clips": CLIPS,
        "unseen": unseen,
        "known": of_known,
    }


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people: quality and gain in percent."""
    steps = figures["steps"]
    names = {
        "before": (f"{STUDENT}, as shipped", 0),
        "statistics": ("statistics only", 0),
        "after": ("adapted", steps),
        "truth": ("true labels", steps),
    }
    found = []
    for domain in ("unseen", "known"):
        first = figures[domain]["before"]["drives"]
        for key, (name, count) in names.items():
            if one := figures[domain].get(key):
                values = [one["STQ"], one["AQ"], one["SQ"], one["PQ"]["all"], one["PQ"]["things"], one["mIoU"]]
                gains = []
                for figure in ("STQ", "PQ"):
                    gain = np.subtract([d[figure] for d in one["drives"]], [d[figure] for d in first])
                    gains += [gain.mean(), gain.std(ddof=1) / len(gain) ** 0.5]
                found.append([domain, name, count, *(100 * float(v) for v in [*values, *gains])])
    columns = ["domain", "model", "training steps", "STQ", "AQ", "SQ", "PQ", "PQ things", "mIoU"]
    return [*columns, "gain STQ", "error", "gain PQ", "error"], found


def with_true_labels(root: Path, work: Path, progress) -> str:
    """The model of the same training, with the true labels of the frames that the teacher has labelled."""
    truth, output = root / "truth.adapt", root / "truth.onnx"
    stems = sorted(path.stem for path in (work / DATA / "train/img").iterdir())
    if not (truth / DATA).is_dir():
        frames = [list(winter(*one)) for one in progress(DRIVES, "true labels", len(DRIVES))]

        def labelled() -> Iterator[tuple[str, Exported]]:
            for stem in stems:
                number, index = int(stem.split("_")[1].split("-")[0]), int(stem.split("-")[-1])
                street = frames[number][index]
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
    export(truth, output, input_size(STUDENT), [], reporter)
    return str(output)


def _bag(root: Path, frames: Iterator[StreetFrame], name: str, seed: int) -> Path:
    path = root / f"{name}-{seed}.mcap"
    if not path.is_file():
        write_bag(path, frames)
    return path


def _quality(root: Path, model: str, drives: Sequence[Path]) -> dict:
    """Quality of the pipeline with a model on drives with ground truth: over all of them, and of each."""
    of_all, each = Evaluator(CITYSCAPES), []
    for path in drives:
        result = root / f"{path.parent.name}-{path.stem}-{Path(model).stem}.result.mcap"
        if not result.is_file():
            with open_frames(path) as source:
                replay_source(source, Config(model=model), result, Options(force=True))
        alone = Evaluator(CITYSCAPES)
        for evaluator in (of_all, alone):
            with open_bags(path, result, taxonomy=CITYSCAPES) as pairs:
                for _ in evaluate_pairs(pairs, evaluator):
                    pass
        found = alone.result()
        each.append({"STQ": found.stq, "PQ": found.pq.all})
    quality = of_all.result().to_json()
    return {key: quality[key] for key in KEPT} | {"drives": each}


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
