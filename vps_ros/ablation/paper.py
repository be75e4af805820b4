"""Figures of Video-kMaX (Shin et al.), tables 5 to 9, on KITTI-STEP val: AQ in percent, and pairs (table 6).

Tables 6 to 9 are near-online, with `appearance` and `hila_mb` for the paper's naive-MB and HiLA-MB.
"""

from __future__ import annotations

LABEL = "paper, near-online"
FEATURES: dict[str, tuple[float | None, float | None, float | None]] = {
    "none": (10.0, 10.4, None),
    "appearance": (33.8, 61.6, 71.4),
    "location": (72.0, 74.0, 72.3),
    "appearance, location": (66.4, 75.7, 73.8),
    "stitching": (None, None, 72.3),
    "stitching, appearance": (None, None, 72.1),
    "stitching, location": (None, None, 73.6),
    "stitching, appearance, location": (None, None, 74.2),
}
"""Table 5: online with ResNet50 and with ConvNeXt-L, and near-online."""
FEATURE_COLUMNS = ("paper, online, ResNet50", "paper, online, ConvNeXt-L", "paper, near-online")
SPACE = {"appearance": (67.1, 336, 25.1, 196), "hila_mb": (19.7, 94, 2.8, 24)}
"""Table 6: mean and maximum of the pairs at tau 1000, and at its best tau (1 and 10)."""
SWEEPS: dict[str, dict[str, tuple[float, ...]]] = {
    "tau and alpha": {
        "appearance": (69.5, 69.9, 71.4, 67.1, 68.8, 71.3, 54.3, 57.4, 64.9, 47.4, 50.7, 59.5),
        "hila_mb": (72.7, 72.8, 72.6, 73.0, 73.4, 73.2, 73.9, 74.2, 73.6, 73.7, 74.2, 73.6),
    },
    "T": {"hila_mb": (73.95, 74.22, 74.30)},
    "lambda": {"hila_mb": (73.34, 74.19, 74.22, 74.22, 74.22, 74.18)},
}
"""Tables 7 (tau 1, 3, 10, 20, each with alpha 0.6, 0.7, 0.8), 8 and 9, in the order of the sweeps' settings."""
