"""Notices another node of the same name, whose messages would mix with ours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import inf

from vps_ros.live.dds_graph import Graph

log = logging.getLogger(__name__)

_EVERY = 5.0
_LEASE = 12.0
"""Seconds after which one that was killed is known to be gone (10), and a little more."""


class Twins:
    """Watches topics of which this process is the only rightful publisher."""

    def __init__(self, graph: Graph, topics: Sequence[str]) -> None:
        self._graph, self._topics = graph, set(topics)
        self._looked, self._since = -inf, inf
        self._note = ""

    def look(self, now: float) -> str:
        """What is wrong, "" for nothing; logged when it is new. `now` in seconds; it looks every few of them."""
        if now - self._looked < _EVERY:
            return self._note
        self._looked = now
        offered = [offer.topic for offer in self._graph.offers() if offer.topic in self._topics]
        twice = sorted(topic for topic in set(offered) if offered.count(topic) > 1)
        if not twice:
            self._since, self._note = inf, ""
            return ""
        self._since = min(self._since, now)
        if now - self._since >= _LEASE and not self._note:
            self._note = f"somebody else publishes {twice[0]} too: run one of them with another --name"
            log.warning("%s", self._note)
        return self._note
