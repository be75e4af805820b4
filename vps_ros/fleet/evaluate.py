"""`fleet evaluate`: the metrics of each bag, merged over all bags, and one report with the worst drive first."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vps_ros.bag_pairs import BagPairs, open_bags
from vps_ros.datasets.labels import MinimumSize
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator, Report
from vps_ros.evaluation.evaluator import dump_counts, load_counts
from vps_ros.evaluation.metric import DEFAULT
from vps_ros.evaluation.page.pictures import lowest_pictures
from vps_ros.evaluation.pairs import FramePair, evaluate_pairs
from vps_ros.evaluation.report import Entry, write_drives_html, write_html
from vps_ros.files import write_json
from vps_ros.fleet.storage import Store
from vps_ros.fleet.work import Item, Job
from vps_ros.parallel import in_order
from vps_ros.taxonomy import TAXONOMIES

_HTML, _COUNTS = ".report.html", ".counts"
_READERS = 8
"""Counts that are read ahead from the store."""


@dataclass(frozen=True)
class Rules:
    """How bags are compared; the options of `vps-ros evaluate` for bags.

    Attributes:
        taxonomy: a name in TAXONOMIES; "" for that of the messages.
    """

    protocol: str = DEFAULT
    taxonomy: str = ""
    gt_topic: str | None = None
    pred_topic: str | None = None
    allow_missing: bool = False
    least_area: int = 0
    least_height: int = 0


class Evaluate(Job):
    """Compares the labels of a bag with ground truth: a report with pictures, and counts for merging.

    The sequences of a bag have its name, or, with several cameras, `name/camera`.
    """

    name = "evaluate"
    endings = (_HTML, _COUNTS)

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def parameters(self) -> Mapping[str, Any]:
        return dataclasses.asdict(self._rules)

    def process(self, item: Item, folder: Path) -> dict[str, Any]:
        rules, smallest = self._rules, MinimumSize(self._rules.least_area, self._rules.least_height)
        truth, warnings = item.truth or item.bag, list[str]()
        # Copied, not streamed: stamps, maps and pictures are read one after the other.
        with truth.copied() as gt, item.bag.copied() as pred:
            topics = rules.gt_topic, rules.pred_topic
            taxonomy = TAXONOMIES.get(rules.taxonomy)
            with open_bags(gt, pred, *topics, taxonomy, rules.allow_missing, warnings.append) as opened:
                pairs = _Named(opened, item.name)
                evaluator = Evaluator(opened.taxonomy, rules.protocol, smallest=smallest)
                found: dict[str, dict[str, float]] = {}
                for pair, quality in evaluate_pairs(pairs, evaluator):
                    found.setdefault(pair.sequence, {})[pair.frame] = quality.pq
                report = evaluator.result()
                shown = lowest_pictures({"": found}, {"": pairs}, opened.taxonomy, folder, smallest=smallest)
            warnings = [w.replace(str(gt), truth.where).replace(str(pred), item.bag.where) for w in warnings]
        for sequence in found:
            evaluator.finish(sequence, timelines=False)
        timeline = {name: list(frames.values()) for name, frames in found.items()}
        write_html(folder / f"result{_HTML}", [Entry(item.name, report, timeline)], shown, title=item.name)
        (folder / f"result{_COUNTS}").write_bytes(dump_counts(evaluator))
        return {"frames": report.frames, "sequences": list(found), "warnings": warnings}


class _Named:
    """The frames of a bag, with sequences that are named by it."""

    def __init__(self, pairs: BagPairs, name: str) -> None:
        self._pairs, self._name = pairs, name

    def __iter__(self) -> Iterator[FramePair]:
        for pair in self._pairs:
            sequence = self._name if len(self._pairs.sequences) == 1 else f"{self._name}/{pair.sequence}"
            yield dataclasses.replace(pair, sequence=sequence)


def merge(job: Job, names: Iterable[str], output: Store) -> Report:
    """The metrics over all bags, merged in the order of their names: as if one process had counted all frames.

    Raises InputError when counts cannot be read, or the bags have different classes.
    """

    def read(name: str) -> tuple[str, Evaluator]:
        return name, load_counts(output.read(f"{name}{_COUNTS}"), output.where(f"{name}{_COUNTS}"))

    merged: Evaluator | None = None
    first = ""
    for name, counts in in_order(read, names, _READERS, ahead=1):
        if merged is None:
            merged, first = counts, name
        elif counts.taxonomy != merged.taxonomy:
            raise InputError(
                f"{name}: has the classes of {counts.taxonomy.name}, {first} those of {merged.taxonomy.name}; choose "
                "one with --taxonomy, or evaluate these bags separately"
            )
        else:
            merged.merge(counts)
    if merged is None:
        raise InputError("nothing to evaluate: no bag has a result")
    return merged.result()


def store_report(report: Report, sequences: Mapping[str, str], failed: Mapping[str, str], output: Store) -> None:
    """Stores `metrics.json` and `report.html`, which links to the report of each bag.

    Args:
        sequences: name of each sequence -> name of its bag.
        failed: name of each bag that could not be evaluated -> the reason.
    """
    links = {sequence: f"{name}{_HTML}" for sequence, name in sequences.items()}
    with tempfile.TemporaryDirectory(prefix="vps-ros-") as folder:
        page, figures = Path(folder, "report.html"), Path(folder, "metrics.json")
        write_drives_html(page, report, links, failed, f"Fleet: {len(set(links.values()))} drives")
        write_json(figures, report.to_json())
        for path in (figures, page):
            output.put(path, path.name)
