"""Pipelines of several cameras that share one model."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.online import OnlinePanoptic


def pipelines(config: Config, count: int) -> tuple[OnlinePanoptic, ...]:
    """One for each camera, with a tracker of its own; the network is loaded once, unless it keeps state of a stream.

    Raises InputError when the model or a parameter cannot be used.
    """
    first = OnlinePanoptic(config)
    shared = None if first.segmenter.recurrent else first.segmenter
    return (first, *(OnlinePanoptic(config, segmenter=shared) for _ in range(count - 1)))
