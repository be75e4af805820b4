"""What an evaluation found, for people and as the JSON of `vps-ros evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.identity import IdentityQuality
from vps_ros.evaluation.lifelines import LifeLine
from vps_ros.evaluation.numbers import known
from vps_ros.evaluation.pq import PanopticQuality
from vps_ros.evaluation.protocols import Protocol
from vps_ros.evaluation.vpq import VideoPanopticQuality


class FrameQuality(NamedTuple):
    """How well one frame alone was segmented; NaN where the frame shows no class."""

    pq: float
    miou: float


@dataclass(frozen=True)
class Quality:
    """The metrics over some frames: of one sequence, or of all. In 0..1; NaN where nothing could be measured.

    Attributes:
        frames, tubes: how much was measured.
        stq, aq, sq: STQ and its two factors, over all tubes and pixels.
        vpq: video panoptic quality; without windows where it was not asked for.
        pq: panoptic quality of the single frames.
        miou: mean IoU of the classes that occur, or of those of the truth; unlike `sq` never with void as a class.
        vc: {n: VC_n}; empty where it was not asked for.
        identity: IDF1, HOTA, MOTA and IDSW of things; None where they were not asked for, or TrackEval is absent.
    """

    frames: int
    tubes: int
    stq: float
    aq: float
    sq: float
    vpq: VideoPanopticQuality
    pq: PanopticQuality
    miou: float
    vc: Mapping[int, float]
    identity: IdentityQuality | None

    def figures(self) -> dict:
        """As JSON, null for NaN."""
        pq, vpq = ({part: known(getattr(q, part)) for part in ("all", "things", "stuff")} for q in (self.pq, self.vpq))
        identity = self.identity
        return {
            "STQ": known(self.stq),
            "AQ": known(self.aq),
            "SQ": known(self.sq),
            "VPQ": self.vpq.to_json(),
            "VPQ_mean": vpq,
            "PQ": pq,
            "mIoU": known(self.miou),
            "VC": {str(n): known(value) for n, value in self.vc.items()},
            "IDF1": known(identity.idf1) if identity else None,
            "HOTA": known(identity.hota) if identity else None,
            "MOTA": known(identity.mota) if identity else None,
            "IDSW": identity.switches if identity else None,
        }


@dataclass(frozen=True)
class SequenceReport(Quality):
    """The metrics over one sequence.

    Attributes:
        lines: its true things through time; empty where they were not asked for.
    """

    lines: tuple[LifeLine, ...] = ()

    def to_json(self) -> dict:
        return {"frames": self.frames, "tubes": self.tubes, **self.figures()}


@dataclass(frozen=True)
class ClassReport:
    """The metrics of one class; NaN for one that does not occur, and AQ of a class without true tubes.

    Attributes:
        pq, sq, rq: of PQ, where `sq` is the mean IoU of the class's matched segments (not the SQ of STQ).
        vpq: mean over the windows in which the class occurs.
        aq: mean association quality of the class's true tubes.
        tp, fp, fn: matched, invented and missed segments.
    """

    is_thing: bool
    color: tuple[int, int, int]
    iou: float
    pq: float
    sq: float
    rq: float
    vpq: float
    aq: float
    tp: int
    fp: int
    fn: int
    tubes: int

    @property
    def occurs(self) -> bool:
        return self.iou == self.iou or self.tp + self.fp + self.fn > 0

    def to_json(self) -> dict:
        quality = {"IoU": self.iou, "PQ": self.pq, "SQ": self.sq, "RQ": self.rq, "VPQ": self.vpq, "AQ": self.aq}
        counts = {"TP": self.tp, "FP": self.fp, "FN": self.fn, "tubes": self.tubes}
        return {"thing": self.is_thing, **{name: known(value) for name, value in quality.items()}, **counts}


@dataclass(frozen=True)
class Report(Quality):
    """The metrics over all sequences.

    Attributes:
        rules: the protocol that decided where the benchmarks differ.
        taxonomy: its name.
        sequences, classes: the metrics of each, by name.
        confusion: int64 [C + 1, C + 1], pixels by true class (rows) and predicted class; the last of each is void.
    """

    rules: Protocol
    taxonomy: str
    sequences: Mapping[str, SequenceReport]
    classes: Mapping[str, ClassReport]
    confusion: NDArray[np.int64]

    @property
    def protocol(self) -> str:
        return self.rules.title

    @property
    def protocols(self) -> Mapping[str, str]:
        """Metric -> whose rules it follows; mIoU only where the protocol has its own."""
        own = {"mIoU": self.rules.miou} if self.rules.miou == self.rules.name else {}
        return {"STQ": self.rules.stq, "VPQ": self.rules.vpq, **own}

    @property
    def void_note(self) -> str:
        """One sentence where SQ is lower than the classes' mean IoU, since people take the two for the same."""
        if not (self.sq < self.miou and self.confusion[:-1, -1].any()):
            return ""
        return "SQ counts predicted void on labelled pixels as one more class, of IoU 0, as deeplab2 does; mIoU not."

    def to_json(self) -> dict:
        """The `--json` of `vps-ros evaluate`."""
        return {
            "protocol": self.protocol,
            "protocols": dict(self.protocols),
            **self.figures(),
            "frames": self.frames,
            "tubes": self.tubes,
            "per_sequence": {name: one.to_json() for name, one in self.sequences.items()},
            "per_class": {name: one.to_json() for name, one in self.classes.items()},
        }
