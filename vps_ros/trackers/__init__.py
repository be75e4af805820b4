"""Segmentation -> identities."""

from __future__ import annotations

from collections.abc import Callable

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.hierarchical import hierarchical

__all__ = ["MAKERS", "Tracker", "make_tracker"]

MAKERS: dict[str, Callable[[Config], Tracker]] = {
    "hierarchical": hierarchical,
}
"""Each takes a settled Config."""


def make_tracker(config: Config) -> Tracker:
    """The tracker that `config.tracker` names, with the parameters of `config`, its own values where they are -1.

    Raises InputError for one that is not there.
    """
    try:
        make = MAKERS[config.tracker]
    except KeyError:
        raise InputError(f"tracker: {config.tracker!r} is not here yet; take one of {', '.join(MAKERS)}") from None
    return make(config.settled())
