"""The figures of a report in the order in which the page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from vps_ros.evaluation.page.markup import UNKNOWN, percent
from vps_ros.evaluation.results import Quality

MEANINGS = {
    "STQ": "segmentation and tracking quality, the geometric mean of AQ and SQ",
    "AQ": "association quality: how well each true tube is covered by one predicted tube",
    "SQ": "segmentation quality of STQ: mean IoU of the classes",
    "VPQ": "video panoptic quality, the mean over its windows",
    "PQ": "panoptic quality of single frames",
    "things": "PQ of the classes of things",
    "stuff": "PQ of the classes of stuff",
    "mIoU": "mean IoU of the classes",
    "IDF1": "share of true and predicted masks that keep one identity",
    "HOTA": "higher order tracking accuracy of things",
    "MOTA": "1 less the missed and invented masks and the switches, for each true mask",
    "IDSW": "how often a true thing is matched with another track than when it was matched last; fewer are better",
}


@dataclass(frozen=True)
class Metric:
    """One figure.

    Attributes:
        part_of: the metric that it is a part of.
        is_count: a whole number, of which fewer are better; otherwise a share, of which more is better.
    """

    name: str
    value: float
    part_of: str = ""
    is_count: bool = False

    @property
    def text(self) -> str:
        """As the page shows it: in percent, or as the number it is; a dash for NaN."""
        if not self.is_count:
            return percent(self.value)
        return UNKNOWN if self.value != self.value else f"{self.value:,.0f}"

    @property
    def meaning(self) -> str:
        if self.name.startswith("VC"):
            return f"video consistency: of the pixels that keep their true class for {self.name[2:]} frames, the share \
that keeps its predicted class"
        return MEANINGS.get(self.name, "")


def metrics(quality: Quality) -> tuple[Metric, ...]:
    """All that was measured: no VPQ, VC or identities where they were not asked for."""
    found = [
        Metric("STQ", quality.stq),
        Metric("AQ", quality.aq, "STQ"),
        Metric("SQ", quality.sq, "STQ"),
    ]
    if quality.vpq.windows:
        found += [
            Metric("VPQ", quality.vpq.all),
            Metric("things", quality.vpq.things, "VPQ"),
            Metric("stuff", quality.vpq.stuff, "VPQ"),
            *(Metric(window_name(n), one.all, "VPQ") for n, one in quality.vpq.windows.items()),
        ]
    found += [
        Metric("PQ", quality.pq.all),
        Metric("things", quality.pq.things, "PQ"),
        Metric("stuff", quality.pq.stuff, "PQ"),
        Metric("mIoU", quality.miou),
        *(Metric(f"VC{n}", value) for n, value in quality.vc.items()),
    ]
    if quality.identity:
        found += [
            Metric("IDF1", quality.identity.idf1),
            Metric("HOTA", quality.identity.hota),
            Metric("MOTA", quality.identity.mota),
            Metric("IDSW", quality.identity.switches, is_count=True),
        ]
    return tuple(found)


def window_name(frames: int) -> str:
    return f"{frames} frame{'s' * (frames != 1)}"
