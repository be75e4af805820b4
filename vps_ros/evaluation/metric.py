"""The interface of a metric: an accumulator over the frames of one sequence, and the result that it gives.

`PROTOCOLS` are the rules of each benchmark where benchmarks differ.
`vps_ros.evaluation.evaluator.METRICS` lists the metrics of an evaluation; docs/evaluation.md shows how to add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import ANY_SIZE, MinimumSize
from vps_ros.errors import InputError
from vps_ros.evaluation.overlaps import Classes, Overlaps, none_for_nan


@dataclass(frozen=True)
class Rules:
    """The rules of one benchmark.

    Attributes:
        stq: one of `vps_ros.evaluation.stq.PROTOCOLS`.
        vpq: one of `vps_ros.evaluation.vpq.PROTOCOLS`.
        miou: `vspw` takes the mean over the classes of the ground truth, `cityscapes` also over those that are only
            predicted.
        smallest: ground-truth things below that size are void; no rule of any benchmark, see `vps_ros.datasets.labels`.
    """

    name: str
    stq: str
    vpq: str
    miou: str = "cityscapes"
    smallest: MinimumSize = ANY_SIZE

    @property
    def title(self) -> str:
        """Its name, and which things are void because of their size."""
        return f"{self.name}, {self.smallest}" if self.smallest else self.name


PROTOCOLS: Mapping[str, Rules] = {
    protocol.name: protocol
    for protocol in (
        Rules("deeplab2", "deeplab2", "kitti-step"),
        Rules("kitti-step", "deeplab2", "kitti-step"),
        Rules("cityscapes-vps", "deeplab2", "cityscapes-vps"),
        Rules("vipseg", "vipseg", "vipseg"),
        Rules("vspw", "deeplab2", "kitti-step", miou="vspw"),
        Rules("video-k-net", "video-k-net", "video-k-net"),
    )
}
"""By name; the first is the default. The code of the KITTI-STEP benchmark is deeplab2: these two are equal."""
DEFAULT = next(iter(PROTOCOLS))


def protocol_of(name: str) -> Rules:
    """Raises InputError for a name that is not one of PROTOCOLS."""
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


class ComparedFrame(NamedTuple):
    """One frame of ground truth and prediction: its overlap table, and both class maps, integer [H, W]."""

    table: Overlaps
    gt_semantic: NDArray[np.integer]
    pred_semantic: NDArray[np.integer]


class Score(NamedTuple):
    """One number as tables and the HTML report show it.

    Attributes:
        value: a share in 0..1 of which more is better, or a count; NaN where it cannot be measured.
        meaning: one line of explanation.
        part_of: the score of which this one is a part.
        is_count: a whole number of which fewer are better.
    """

    name: str
    value: float
    meaning: str
    part_of: str = ""
    is_count: bool = False


class Result(ABC):
    """What a metric measured."""

    @abstractmethod
    def scores(self) -> tuple[Score, ...]:
        """Its part of the tables, in their order."""

    def to_json(self) -> dict[str, Any]:
        """Its part of the `--json` of `vps-ros evaluate`, by default its scores: shares in 0..1, None for NaN."""
        return {score.name: score.value if score.is_count else none_for_nan(score.value) for score in self.scores()}


class Metric(ABC):
    """Accumulator over the frames of one sequence.

    Attributes:
        needs_order: the metric depends on the order of the frames; `Evaluator(video=False)` leaves it out.
        unmeasured: the JSON of a report that leaves it out.
    """

    needs_order: ClassVar[bool] = False
    unmeasured: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def create(cls, classes: Classes, rules: Rules) -> Metric | None:
        """An empty accumulator that follows the rules of a benchmark; None where a library that it needs is missing."""
        make: Any = cls
        return make(classes)

    def check(self, frame: ComparedFrame) -> None:  # noqa: B027
        """Raises InputError for a frame that `add` cannot take. It is called before any metric counts the frame."""

    def add(self, frame: ComparedFrame) -> None:
        """Counts the next frame; by default `update` with its overlap table."""
        self.update(frame.table)

    @abstractmethod
    def update(self, table: Any) -> None:
        """Counts the next frame by its overlap table, or by what the metric's own `add` passes."""

    @abstractmethod
    def extend(self, later: Any) -> None:
        """Adds what another accumulator counted of the following frames of the same sequence."""

    def finish(self) -> None:  # noqa: B027
        """Releases what only further frames of the sequence would need."""

    def result(self) -> Result:
        """The result of the sequence."""
        return self.total([self])

    @classmethod
    @abstractmethod
    def total(cls, sequences: Sequence[Any]) -> Result:
        """The result over several sequences, one accumulator for each; at least one."""
