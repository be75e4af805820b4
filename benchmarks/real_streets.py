"""Real streets: mIoU over CamVid's 11 classes, and PQ over Cityscapes' 19, of models at several input sizes.

CamVid's sequences 0001TP, 0006R0 and Seq05VD in the 11 classes of SegNet (Badrinarayanan et al., 2015). The shipped
city-s has learned from all three (docs/training.md), so its figures there are those of training data; streets-s has
seen no real street.
The 19 classes of a model are brought to them by datasets/class_images.py: wall counts as building and terrain as
tree, as in that list; truck, bus and train as car; rider, bicycle and motorcycle as bicyclist; traffic light and
traffic sign as sign. A pixel without a class is an error. Of Cityscapes, three images labelled by people, and every
fifth frame of clips labelled by a machine, of which recipes may have learned; things that the labels do not tell apart
are crowds.

The same weights see each image stretched to the size they were trained at, scaled to fit into it, and at its own aspect
in an input of about its own shape, for which the network would be exported (`vps-ros export --size`).

The images may not be passed on and are no part of the project: VPS_ROS_REALDATA names the folder that holds
streets/camvid, streets/cityscapes_stills and streets/cityscapes_clips, in the layouts of docs/datasets.md.
VPS_ROS_MODELS names the models, separated by commas: runs, checkpoints and streets-s-float (used without it), measured
at several inputs, or names and files of exported models (`vps-ros export`, also of public networks), measured as they
are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._quality import pq_figures
from benchmarks._real import real_data
from vps_ros.evaluation import Evaluator, Report
from vps_ros.files import model_path, shipped_models
from vps_ros.labelling.segments import class_map
from vps_ros.segmenters import SegmenterParameters, load_segmenter
from vps_ros.segmenters.onnx_segmenter import OnnxSegmenter

DESCRIPTION = "mIoU on CamVid and PQ on Cityscapes images, at several input sizes (needs VPS_ROS_REALDATA)"
DEFAULT = "streets-s-float"


class Part(NamedTuple):
    """Frames to measure on: format, folder, split, every which frame, an input of about the images' shape, and the
    subfolder of the labels."""

    format: str
    folder: str
    split: str
    every: int
    size: tuple[int, int]
    labels: str = ""


PARTS = {
    **{
        f"CamVid {drive}": Part("camvid", "camvid", drive, 1, (480, 352), f"labels/{drive}")
        for drive in ("0001TP", "0006R0", "Seq05VD")
    },
    "Cityscapes stills": Part("cityscapes", "cityscapes_stills", "", 1, (640, 320)),
    "Cityscapes clips": Part("cityscapes", "cityscapes_clips", "", 5, (640, 320)),
}
STRETCHED, FITTED = "stretched", "fitted"


def run(progress: Any) -> dict:
    """Figures by model, frames and input."""
    folder = real_data()[0] / "streets"
    parts = {name: part for name, part in PARTS.items() if (folder / part.folder / part.labels).is_dir()}
    if not parts:
        return {"skipped": real_data("streets/camvid")[1] or f"{folder}/camvid: has no labels"}
    models = [name for name in os.environ.get("VPS_ROS_MODELS", DEFAULT).split(",") if name]
    jobs = [(model, name) for model in models for name in parts]
    found: dict[str, dict] = {}
    for model, name in progress(jobs, "models", len(jobs)):
        measure = file_measured if model.endswith(".onnx") or model in {*shipped_models()} - {DEFAULT} else measured
        found.setdefault(Path(model).stem, {})[name] = measure(model, folder, parts[name])
    return {"models": found}


def file_measured(model: str, folder: Path, part: Part) -> dict[str, dict[str, Any]]:
    """Scores of an exported model as it is: each image stretched to its input."""
    from vps_ros.datasets.class_mapping import source_table
    from vps_ros.datasets.formats import DATA_SETS

    segmenter = load_segmenter(SegmenterParameters(model=model))
    assert isinstance(segmenter, OnnxSegmenter)
    classes = DATA_SETS[part.format].classes
    evaluator = Evaluator(classes.taxonomy, video=False)
    table = np.arange(256, dtype=np.uint8)
    if classes.taxonomy != segmenter.taxonomy:
        table = source_table(classes, segmenter.taxonomy)
    frames = frames_of(folder, part)
    for number, (clip, i) in enumerate(frames):
        image, semantic, instance = clip.read(i)
        found = segmenter(np.array(image))
        evaluator.update(str(number), semantic, instance, table[class_map(found)].astype(np.uint8), found.map)
    card = segmenter.card
    return {STRETCHED: scores_of(evaluator.result(), f"{card.input.width}x{card.input.height}", len(frames), classes)}


def frames_of(folder: Path, part: Part) -> list[tuple[Any, int]]:
    """Labelled frames: clip and index."""
    from vps_ros.learning.data.entries import FolderData
    from vps_ros.learning.data.sources import Folders

    data = FolderData(
        format=part.format,
        root=str(folder / part.folder),
        size=part.size,
        split=part.split,
        validation_split="",
        validation_frames=1,
    )
    return [(clip, i) for clip in Folders(data).training() for i in range(len(clip))][:: part.every]


def scores_of(report: Report, size: str, frames: int, classes: Any) -> dict[str, Any]:
    """What is kept of a report."""
    scores: dict[str, Any] = {"input": size, "frames": frames, "mIoU": report.miou}
    scores["classes"] = {n: c.iou for n, c in report.classes.items() if c.iou == c.iou}
    if classes.taxonomy.thing_ids:
        scores |= pq_figures(report)
    return scores


def measured(model: str, folder: Path, part: Part) -> dict[str, dict[str, float | int]]:
    """Scores of a model by input."""
    import torch

    from vps_ros.datasets.class_mapping import source_table
    from vps_ros.datasets.formats import DATA_SETS
    from vps_ros.learning.kinds import kind_for
    from vps_ros.learning.training.initial_weights import trained
    from vps_ros.learning.training.validation import evaluate, predict

    torch.set_num_threads(2)
    network, recipe, _, limits = trained(Path(model) if Path(model).exists() else model_path(model))
    kind, taxonomy, size = kind_for(recipe), recipe.data.taxonomy, recipe.data.size
    frames = frames_of(folder, part)
    classes = DATA_SETS[part.format].classes
    renamed = None if classes.taxonomy == taxonomy else (classes.taxonomy, source_table(classes, taxonomy))
    own = "{}x{}".format(*part.size)
    inputs = {
        STRETCHED: kind.input_spec(size, False),
        FITTED: kind.input_spec(size, True),
        own: kind.input_spec(part.size, True),
    }
    scores = {}
    for name, spec in inputs.items():
        predictions = predict(kind, network, frames, spec)
        report = evaluate(predictions, limits or kind.thresholds, taxonomy, kind.activation, renamed)
        scores[name] = scores_of(report, f"{spec.width}x{spec.height}", len(frames), classes)
    return scores


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people, in percent."""
    keys = ("mIoU", "PQ", "PQ things", "PQ stuff")
    rows, of_classes = [], []
    camvid = [
        one
        for parts in figures["models"].values()
        for part, inputs in parts.items()
        if part.startswith("CamVid")
        for one in inputs.values()
    ]
    # A class that is neither in the labels nor in the result has no IoU.
    names = list(dict.fromkeys(name for one in camvid for name in one["classes"]))
    for model, parts in figures["models"].items():
        for part, inputs in parts.items():
            for name, one in inputs.items():
                cells = [100 * one[key] if key in one else None for key in keys]
                rows.append([model, part, one["frames"], f"{name} ({one['input']})", *cells])
                if part.startswith("CamVid"):
                    found = (one["classes"].get(key) for key in names)
                    of_classes.append([model, part, name, *(None if v is None else 100 * v for v in found)])
    shown = [("percent", ["model", "images", "frames", "input", *keys], rows)]
    if of_classes:
        shown.append(("IoU of CamVid's classes, percent", ["model", "images", "input", *names], of_classes))
    return shown
