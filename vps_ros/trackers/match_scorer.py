"""The learned network that scores pairs of rows and columns of an assignment, and its file. NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.trackers.learned import check_arrays, read_weights, write_weights

FORMAT = 1
MAX_LOG_ODDS = 12.0
"""Limit of the first stage's log-odds."""
CONTEXT_FEATURES = 3
"""Additional features of the second stage: the pair's log-odds of the first stage, and two of its competing pairs."""
CONTEXT_SCALE = 1 / 3
FIRST_STAGE = ("mean", "scale", "hidden", "hidden_bias", "out", "out_bias")
SECOND_STAGE = ("again", "again_bias", "again_out", "again_out_bias")
_NAMES = (*FIRST_STAGE, *SECOND_STAGE)


@dataclass(frozen=True)
class MatchScorer:
    """Log-odds that a row and a column are one object, against the column being new and the row staying alone.

    In the hierarchical tracker rows are tracks and columns detections; with look-ahead, ends and starts of tracklets.

    The first stage scores each pair by its own features. The second stage also sees the scores of the competing pairs,
    those with the same track or the same detection: a weak match without competition is worth more than a medium one
    beside a strong one. Each stage is one layer of rectified linear units. The fields are the arrays of the file.

    Attributes:
        mean, scale: float32 [F], of the features.
        hidden, hidden_bias, out, out_bias: first stage, [H, F], [H], [H], [].
        again, again_bias, again_out, again_out_bias: second stage, [H, F + CONTEXT_FEATURES], [H], [H], [].
        about: metadata of the file.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    hidden: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    out: NDArray[np.float32]
    out_bias: NDArray[np.float32]
    again: NDArray[np.float32]
    again_bias: NDArray[np.float32]
    again_out: NDArray[np.float32]
    again_out_bias: NDArray[np.float32]
    about: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self, features: NDArray[np.float32], m: NDArray[np.int64], k: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Log-odds [P] of pairs with the `features` [P, F], of rows m [P] and columns k [P]."""
        weights, bias = self._of_features
        both = weights @ features.T
        both += bias
        hidden = len(self.hidden)
        first = self.out @ np.maximum(both[:hidden], 0) + self.out_bias
        first = np.minimum(np.maximum(first, -MAX_LOG_ODDS), MAX_LOG_ODDS)
        context = np.empty((CONTEXT_FEATURES, len(m)), np.float32)
        context[0], context[1:] = first, competition(first, m, k)
        context *= CONTEXT_SCALE
        second = both[hidden:]
        second += self.again[:, -CONTEXT_FEATURES:] @ context
        return first + self.again_out @ np.maximum(second, 0) + self.again_out_bias

    @cached_property
    def _of_features(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights [H + A, F] and biases [H + A, 1] of both layers for features that are not normalised."""
        weights = np.concatenate([self.hidden, self.again[:, :-CONTEXT_FEATURES]]).astype(np.float64) * self.scale
        bias = np.concatenate([self.hidden_bias, self.again_bias]) - weights @ self.mean.astype(np.float64)
        return weights.astype(np.float32), bias.astype(np.float32)[:, None]


def competition(log_odds: NDArray[np.floating], *groups: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """For each way of grouping the pairs: log(1 + sum of exp(log_odds) of the other pairs of the same group), [P]."""
    odds = np.exp(log_odds.astype(np.float64))
    return [np.log1p(np.maximum(np.bincount(group, odds).take(group) - odds, 0)) for group in groups]


@lru_cache
def shipped_scorer(name: str, columns: tuple[str, ...]) -> MatchScorer:
    """The scorer `name` in the package, made by `vps-ros train --config config/train/NAME.yaml`."""
    with resources.as_file(resources.files("vps_ros") / "weights" / f"{name}.npz") as path:
        return read(path, columns)


def read(path: Path, columns: tuple[str, ...]) -> MatchScorer:
    """The scorer in a file.

    Args:
        columns: names of the features that it gets.

    Raises InputError when there is no such file, or it is damaged or was trained for other features.
    """
    remedy = f"train it again with `vps-ros train --config config/train/{path.stem}.yaml`"
    about, arrays = read_weights(path, _NAMES, f"the scorer {path.stem}", remedy)
    if not isinstance(about, dict) or about.get("format") != FORMAT or tuple(about.get("columns", ())) != columns:
        raise InputError(f"{path}: was trained for other features than this version has; {remedy}")
    f, h, a = len(columns), *(len(np.atleast_1d(arrays[name])) for name in ("hidden", "again"))
    shapes = ((f,), (f,), (h, f), (h,), (h,), (), (a, f + CONTEXT_FEATURES), (a,), (a,), ())
    check_arrays(path, arrays, dict(zip(_NAMES, shapes, strict=True)), remedy)
    return MatchScorer(**arrays, about=about)


def write(path: Path, scorer: MatchScorer) -> None:
    """Writes the file atomically."""
    write_weights(path, scorer.about, {name: getattr(scorer, name) for name in _NAMES})
