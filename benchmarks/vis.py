"""Video instance segmentation: AP of YouTube-VIS for things of generated clips, online, over clips, with look-ahead.

The network is streets-s-float, exported with `--kernels`, and the tracker the default one. Over clips of T frames,
which do not overlap, kernels of one object are fused, and one fused kernel gives the masks of all T frames (a tube);
the tracker links the tubes of consecutive clips. With look-ahead, identities are decided after the last frame. Each
drive is one video. The score of an object is the mean of its scores. Classes are the 8 things of Cityscapes; those
without a true object do not count. Objects that are never larger than the given area are crowd, which AP ignores.

VPS_ROS_VIS_MODELS names further model files, separated by commas: for images, recurrent, or for clips, with the overlap
of their card.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np

from benchmarks._kernels import MODEL, SIMILARITY, export_kernels, needs_training
from vps_ros.clips import ClipSpec
from vps_ros.config import Config
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.datasets.youtube_vis import ObjectCollector, ObjectTrack, ObjectVideo
from vps_ros.evaluation.average_precision import AveragePrecision
from vps_ros.frame import PanopticFrame
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.lookahead import Lookahead
from vps_ros.segmenters.model_card import ModelCard, describe_model
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "AP of tracked things (YouTube-VIS): online, kernels fused over clips, look-ahead"
SCENARIOS, SEED, FRAMES, SIZE = ("cruise", "crowd", "occlusion", "turning"), 950_000, 16, (640, 192)
LENGTHS = (1, 2, 4)
LEAST_AREA = 64
FIGURES = ("AP", "AP50", "AP75", "AR1", "AR10")


def run(progress: Any) -> dict:
    """Figures by length of the clips and kind of identities."""
    given = [Path(path) for path in os.environ.get("VPS_ROS_VIS_MODELS", "").split(",") if path]
    with TemporaryDirectory() as temporary:
        try:
            model = export_kernels(Path(temporary))
        except ModuleNotFoundError as error:
            return needs_training(error)
        cases = [_Case(MODEL, _config(model, length), ClipSpec(length, 0)) for length in LENGTHS]
        cases += [_given(path) for path in given]
        for number, scenario in enumerate(progress(SCENARIOS, "drives", len(SCENARIOS)), 1):
            frames = list(drive(scenario, SEED, FRAMES, SIZE))
            truth = _video(number, scenario, _truth(frames))
            for case in cases:
                began = process_time()
                results = _results(case.config, frames)
                case.seconds += process_time() - began
                for ahead, final in ((False, results), (True, _with_lookahead(case.config, frames, results))):
                    case.counts[ahead].update(truth, _video(number, scenario, _objects(final)))
    return {
        "drives": [f"{scenario}-{SEED}" for scenario in SCENARIOS],
        "frames": FRAMES,
        "size": list(SIZE),
        "least_area": LEAST_AREA,
        "rows": [
            {
                "model": case.model,
                "clip": case.clip.length,
                "overlap": case.clip.overlap,
                "lookahead": ahead,
                "cpu_ms": 1000 * case.seconds / (FRAMES * len(SCENARIOS)),
                **one.result().to_json(),
            }
            for case in cases
            for ahead, one in case.counts.items()
        ],
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """AP and AR in percent, with the number of predicted objects and the processor time of a frame."""
    one = figures["rows"][0]
    width, height = figures["size"]
    title = (
        f"percent on {len(figures['drives'])} drives of {figures['frames']} frames of {width}x{height}, "
        f"{one['tracks']} true things, crowd below {figures['least_area']} pixels"
    )
    rows = [
        [
            row["model"],
            row["clip"],
            row["overlap"],
            "look-ahead" if row["lookahead"] else "online" if row["clip"] == 1 else "near-online",
            *(100 * row[name] for name in FIGURES),
            row["predictions"],
            row["cpu_ms"],
        ]
        for row in figures["rows"]
    ]
    columns = ["model", "frames of a clip", "overlap", "identities", *FIGURES, "predicted things", "CPU ms a frame"]
    return [(title, columns, rows)]


@dataclass
class _Case:
    """A model with its clips, the time that it took, and its figures by look-ahead."""

    model: str
    config: Config
    clip: ClipSpec
    seconds: float = 0.0
    counts: dict[bool, AveragePrecision] = field(
        default_factory=lambda: {ahead: AveragePrecision(CITYSCAPES) for ahead in (False, True)}
    )


def _config(model: Path, length: int) -> Config:
    return Config(model=str(model), threads=1, clip_length=length, clip_overlap=0, clip_similarity=SIMILARITY)


def _given(path: Path) -> _Case:
    card = describe_model(str(path)).card
    assert isinstance(card, ModelCard)
    return _Case(path.stem, Config(model=str(path), threads=1), card.clip or ClipSpec())


def _results(config: Config, frames: Sequence[StreetFrame]) -> list[PanopticFrame]:
    pipeline = OnlinePanoptic(config)
    found = [result for one in frames for result in pipeline.push(one.frame)]
    return [*found, *pipeline.flush()]


def _with_lookahead(
    config: Config, frames: Sequence[StreetFrame], results: Sequence[PanopticFrame]
) -> list[PanopticFrame]:
    lookahead = Lookahead(config.tracker_parameters.confirm_hits)
    for one, result in zip(frames, results, strict=True):
        lookahead.add(one.frame, result)
    lookahead.link()
    return [lookahead.rewrite(result) for result in results]


def _objects(results: Sequence[PanopticFrame]) -> tuple[ObjectTrack, ...]:
    objects = ObjectCollector()
    for one in results:
        objects.add((t.track_id, t.class_id, t.score, one.mask(t)) for t in one.visible)
    return objects.tracks()


def _truth(frames: Sequence[StreetFrame]) -> tuple[ObjectTrack, ...]:
    objects = ObjectCollector()
    for one in frames:
        # A rider and its bicycle may have one instance number.
        codes = np.where(one.instance > 0, one.semantic.astype(np.int64) << 16 | one.instance, 0)
        objects.add((code, code >> 16, 1.0, codes == code) for code in np.unique(codes).tolist() if code)
    return tuple(_small_as_crowd(track) for track in objects.tracks())


def _small_as_crowd(track: ObjectTrack) -> ObjectTrack:
    largest = max(mask.area for mask in track.masks if mask is not None)
    return ObjectTrack(track.id, track.class_id, track.masks, crowd=largest < LEAST_AREA)


def _video(number: int, name: str, tracks: tuple[ObjectTrack, ...]) -> ObjectVideo:
    return ObjectVideo(number, name, tuple(map(str, range(FRAMES))), SIZE[1], SIZE[0], tracks)
