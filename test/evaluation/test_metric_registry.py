"""A new metric is one class and one entry of the registry."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from support.pages import parse
from vps_ros.commands.evaluate import show
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.evaluator import METRICS
from vps_ros.evaluation.metric import Metric, Result, Score
from vps_ros.evaluation.report import Entry, write_html
from vps_ros.taxonomy import CITYSCAPES

ROAD, CAR, VOID = 0, 13, 255


@dataclass(frozen=True)
class AccuracyResult(Result):
    correct: int
    labelled: int

    @property
    def share(self):
        return self.correct / self.labelled if self.labelled else float("nan")

    def scores(self):
        return (Score("accuracy", self.share, "share of the labelled pixels whose class is correct"),)


class Accuracy(Metric):
    """Pixel accuracy, from the overlap tables."""

    def __init__(self, classes):
        self.void, self.counts = classes.void, np.zeros(2, np.int64)

    def update(self, table):
        labelled = table.gt_class != self.void
        correct = labelled & (table.gt_class == table.pred_class)
        self.counts += [table.count[correct].sum(), table.count[labelled].sum()]

    def extend(self, later):
        self.counts += later.counts

    @classmethod
    def total(cls, sequences: Sequence["Accuracy"]):
        return AccuracyResult(*np.sum([one.counts for one in sequences], axis=0).tolist())


@pytest.fixture
def accuracy(monkeypatch):
    monkeypatch.setitem(METRICS, "accuracy", Accuracy)


def frame(*classes):
    semantic = np.array([classes], np.uint8)
    return semantic, (semantic == CAR).astype(np.int32)


FRAMES = {
    # 3 of 4 labelled pixels, then 1 of 2 and 2 of 2.
    "a": [((ROAD, ROAD, CAR, CAR, VOID), (ROAD, ROAD, CAR, ROAD, CAR))],
    "b": [((ROAD, CAR), (ROAD, ROAD)), ((CAR, CAR), (CAR, CAR))],
}


def evaluator(frames):
    found = Evaluator(CITYSCAPES)
    for sequence, several in frames.items():
        for gt, pred in several:
            found.update(sequence, *frame(*gt), *frame(*pred))
    return found


def test_it_is_measured_for_sequences_and_over_all(accuracy):
    figures = evaluator(FRAMES).result().to_json()
    assert figures["accuracy"] == 6 / 8
    assert {name: one["accuracy"] for name, one in figures["per_sequence"].items()} == {"a": 3 / 4, "b": 3 / 4}


def test_parts_of_a_sequence_merge(accuracy):
    first = evaluator({"b": FRAMES["b"][:1]})
    first.merge(evaluator({"b": FRAMES["b"][1:]}))
    first.merge(evaluator({"a": FRAMES["a"]}))
    assert first.result().to_json() == evaluator(FRAMES).result().to_json()


def test_tables_and_the_report_show_it(accuracy, tmp_path, capsys):
    report = evaluator(FRAMES).result()
    show({"mine": report})
    assert "accuracy" in capsys.readouterr().out
    write_html(tmp_path / "r.html", [Entry("mine", report), Entry("same", report)])
    page = parse((tmp_path / "r.html").read_text())
    compared, *_ = page.all("table")
    assert next(row for row in compared.texts() if row[0] == "accuracy") == ["accuracy", "75.0", "75.0", "0.0"]
    write_html(tmp_path / "r.html", [Entry("mine", report)])
    page = parse((tmp_path / "r.html").read_text())
    tiles = {name.text: value.text for name, value in zip(page.all("dt"), page.all("dd"), strict=True)}
    assert tiles["accuracy"] == "75.0"
    _, sequences, *_ = page.all("table")
    column = sequences.texts()[0].index("accuracy")
    assert [row[column] for row in sequences.texts()[1:]] == ["75.0", "75.0", "75.0"]


def test_without_it_nothing_is_left_of_it():
    assert "accuracy" not in evaluator(FRAMES).result().to_json()
