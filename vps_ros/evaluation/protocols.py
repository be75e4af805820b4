"""Protocols: the rules of each benchmark where benchmarks differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vps_ros.datasets.labels import ANY_SIZE, MinimumSize
from vps_ros.errors import InputError


@dataclass(frozen=True)
class Protocol:
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


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("deeplab2", "deeplab2", "kitti-step"),
        Protocol("kitti-step", "deeplab2", "kitti-step"),
        Protocol("cityscapes-vps", "deeplab2", "cityscapes-vps"),
        Protocol("vipseg", "vipseg", "vipseg"),
        Protocol("vspw", "deeplab2", "kitti-step", miou="vspw"),
        Protocol("video-k-net", "video-k-net", "video-k-net"),
    )
}
"""By name; the first is the default. The code of the KITTI-STEP benchmark is deeplab2: these two are equal."""
DEFAULT = next(iter(PROTOCOLS))


def protocol_of(name: str) -> Protocol:
    """Raises InputError for a name that is not one of PROTOCOLS."""
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
