"""The interface of a metric: an accumulator over the frames of one sequence, and the result that it gives.

`vps_ros.evaluation.evaluator.METRICS` lists the metrics of an evaluation; docs/evaluation.md shows how to add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.overlaps import Classes, Overlaps
from vps_ros.evaluation.protocols import Protocol as Rules


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


class Result(Protocol):
    """What a metric measured."""

    def to_json(self) -> dict[str, Any]:
        """Its part of the `--json` of `vps-ros evaluate`: values in 0..1, None for NaN."""

    def scores(self) -> tuple[Score, ...]:
        """Its part of the tables, in their order."""


class Metric(ABC):
    """Accumulator over the frames of one sequence.

    Attributes:
        needs_order: the metric depends on the order of the frames; `Evaluator(video=False)` leaves it out.
        unmeasured: the JSON of a report that leaves it out.
    """

    needs_order: ClassVar[bool] = False
    unmeasured: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    @abstractmethod
    def create(cls, classes: Classes, rules: Rules) -> Metric | None:
        """An empty accumulator that follows the rules of a benchmark; None where a library that it needs is missing."""

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
