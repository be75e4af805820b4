"""`vps-ros evaluate --format youtube-vis`: average precision of objects through videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vps_ros.commands.console import progress, table
from vps_ros.datasets.youtube_vis import edition, find_truth, load_results, load_truth
from vps_ros.errors import InputError
from vps_ros.evaluation.average_precision import AveragePrecision, TrackPrecision

RESULTS = "results.json"
"""What a folder of predictions holds."""


def measure_tracks(gt: str | Path, predictions: Mapping[str, str], split: str | None) -> dict[str, TrackPrecision]:
    """AP and AR of each prediction, by its name.

    Args:
        gt: the data set's folder, or its JSON.
        predictions: name -> results, or a folder that holds RESULTS.

    Raises:
        InputError: as the readers of `vps_ros.datasets.youtube_vis`, or the truth has no tracks at all.
    """
    path = Path(gt) if Path(gt).is_file() else find_truth(gt, split)
    taxonomy = edition(path)
    truth = load_truth(path, taxonomy)
    if not any(not track.crowd for video in truth for track in video.tracks):
        raise InputError(f"{path}: has no annotations to compare with; the benchmark keeps those of some splits")
    results = {name: load_results(_results(pred), truth, taxonomy) for name, pred in predictions.items()}
    reports = {}
    for name, videos in results.items():
        counts = AveragePrecision(taxonomy)
        label = "evaluate" if len(results) == 1 else f"evaluate {name}"
        for video, predicted in progress(zip(truth, videos, strict=True), label, len(truth)):
            counts.update(video, predicted)
        reports[name] = counts.result()
    return reports


def show_tracks(reports: Mapping[str, TrackPrecision]) -> None:
    """The figures as tables for people, in percent."""
    first = next(iter(reports.values()))
    title = f"protocol youtube-vis, taxonomy {first.taxonomy}, in percent"
    columns = ("AP", "AP50", "AP75", "AR1", "AR10")
    counts = ("videos", "tracks", "predictions")
    rows = [
        (name, r.videos, r.tracks, r.predictions, *_percent(*r.total, *r.sizes.values())) for name, r in reports.items()
    ]
    table(title, ("prediction", *counts, *columns, *(f"AP {size}" for size in first.sizes)), rows, digits=1)
    if len(reports) == 1:
        table("per class", ("class", *columns), [(n, *_percent(*c)) for n, c in first.classes.items()], digits=1)
    else:
        rows = [(name, *_percent(*(r.classes[name].ap for r in reports.values()))) for name in first.classes]
        table("AP per class", ("class", *reports), rows, digits=1)


def _results(path: str) -> Path:
    return Path(path) / RESULTS if Path(path).is_dir() else Path(path)


def _percent(*values: float) -> tuple[float | None, ...]:
    return tuple(None if v != v else 100 * v for v in values)
