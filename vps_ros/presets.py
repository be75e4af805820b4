"""The values that each tracker has for the parameters that trackers share: those of its paper, or measured ones.

A parameter of Config that is -1 takes its tracker's value from here (`Config.settled`).
"""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """A value and where it was found."""

    value: float
    source: str


_MEASURED = "measured on generated streets (docs/benchmarks.md)"
_KMAX = "Video-kMaX"
_STEP = "STEP, released code of the baselines (Video K-Net table 2)"
_QUASI = "Video K-Net, released code"
_HYBRID = "HybridTracker"

_NO_SOONER = Preset(1e6, "no paper: every object is remembered as long as memory_tau says")
_LAST_BOXES = Preset(1.0, f"{_KMAX} equation 4: the last two boxes")

PRESETS: dict[str, dict[str, Preset]] = {
    "hierarchical": {
        "association_threshold": Preset(0.4, "between 0.33 and 0.5, hardly apart on generated streets"),
        "appearance_weight": Preset(0.3, "chosen; varied in docs/ablation.md"),
        "velocity_weight": Preset(0.5, "chosen, not measured"),
        "memory_tau": Preset(30.0, "chosen; varied in docs/ablation.md"),
        "tentative_tau": Preset(6.0, "chosen, not measured"),
    },
    "location": {
        "location_threshold": Preset(0.7, f"{_KMAX} table 7: alpha of HiLA-MB"),
        "location_temperature": Preset(1.0, f"{_KMAX} table 8"),
        "velocity_weight": _LAST_BOXES,
        "memory_tau": Preset(10.0, f"{_KMAX} table 7: tau of HiLA-MB"),
        "tentative_tau": _NO_SOONER,
    },
    "appearance": {
        "memory_threshold": Preset(0.8, f"{_KMAX} table 7: alpha of naive-MB"),
        "appearance_weight": Preset(0.8, f"{_KMAX} equation 3, table 9"),
        "memory_tau": Preset(1.0, f"{_KMAX} tables 6 and 7: tau of naive-MB"),
        "tentative_tau": _NO_SOONER,
    },
    "hila_mb": {
        "memory_threshold": Preset(0.7, f"{_KMAX} table 7: alpha of HiLA-MB"),
        "location_threshold": Preset(0.7, f"{_KMAX} knows appearance always; alpha again"),
        "location_temperature": Preset(1.0, f"{_KMAX} table 8"),
        "appearance_weight": Preset(0.8, f"{_KMAX} equation 3, table 9"),
        "velocity_weight": _LAST_BOXES,
        "memory_tau": Preset(10.0, f"{_KMAX} table 7: tau of HiLA-MB"),
        "tentative_tau": _NO_SOONER,
    },
    "iou": {
        "iou_threshold": Preset(0.3, _STEP),
        "memory_tau": Preset(10.0, _STEP),
        "tentative_tau": _NO_SOONER,
    },
    "sort": {
        "iou_threshold": Preset(0.3, "SORT, released code"),
        "memory_tau": Preset(10.0, "as the other baselines of STEP; SORT itself forgets after 1"),
        "tentative_tau": _NO_SOONER,
    },
    "mask_propagation": {
        "iou_threshold": Preset(0.3, _STEP),
        "memory_tau": Preset(10.0, _STEP),
        "tentative_tau": _NO_SOONER,
    },
    "quasi_dense": {
        "instance_temperature": Preset(0.02, "chosen for colour histograms; the paper's are not of length 1"),
        "appearance_weight": Preset(0.8, _QUASI),
        "memory_tau": Preset(5.0, _QUASI),
        "tentative_tau": _NO_SOONER,
    },
    "pixel": {
        "pixel_threshold": Preset(1e-5, f"{_HYBRID} III-D"),
        "temporal_threshold": Preset(0.01, f"{_HYBRID} table VII"),
        "memory_tau": Preset(2.0, f"{_HYBRID} III-E: one frame further back"),
        "tentative_tau": _NO_SOONER,
    },
    "instance": {
        "instance_threshold": Preset(1e-5, f"{_HYBRID} III-D"),
        "instance_temperature": Preset(0.1, _MEASURED),
        "temporal_threshold": Preset(0.005, f"{_HYBRID} table VII"),
        "memory_tau": Preset(2.0, f"{_HYBRID} III-E: one frame further back"),
        "tentative_tau": _NO_SOONER,
    },
    "hybrid": {
        "instance_threshold": Preset(1e-5, f"{_HYBRID} III-D"),
        "instance_temperature": Preset(0.1, _MEASURED),
        "temporal_threshold": Preset(0.01, f"{_HYBRID} table VII"),
        "memory_tau": Preset(2.0, f"{_HYBRID} III-E: one frame further back"),
        "tentative_tau": _NO_SOONER,
    },
}
"""{tracker: {parameter: value and source}}. What a tracker's row does not name, it does not use."""
