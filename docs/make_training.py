"""Draws docs/images/training.png from docs/training-log.jsonl: `python docs/make_training.py`."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DOCS = Path(__file__).resolve().parent
SMOOTHED = 10
"""Entries of the log that each drawn point of a loss averages."""
LOSSES = {
    "final_dice": "1 - dice, final masks",
    "semantic": "semantic cross entropy",
    "track": "association, equation 1",
    "offset": "offset to the centre",
}


def draw(log: list[dict], path: Path) -> None:
    losses = [e for e in log if "total" in e]
    checks = [e for e in log if "validation" in e]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for name, label in LOSSES.items():
        points = [(e["step"], e[name]) for e in losses if name in e]
        groups = [points[i : i + SMOOTHED] for i in range(0, len(points) - SMOOTHED + 1, SMOOTHED)]
        left.plot([g[-1][0] for g in groups], [sum(v for _, v in g) / len(g) for g in groups], label=label)
    left.set(xlabel="step", ylabel="loss, before weighting", ylim=(0, None), title="training")
    left.legend()
    for name, label in {"pq": "PQ", "pq_stuff": "PQ, stuff", "pq_things": "PQ, things", "miou": "mIoU"}.items():
        right.plot([e["step"] for e in checks], [e["validation"][name] for e in checks], marker=".", label=label)
    right.set(xlabel="step", ylim=(0, 1), title="validation drives, averaged weights")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    lines = (DOCS / "training-log.jsonl").read_text().splitlines()
    draw([json.loads(line) for line in lines], DOCS / "images" / "training.png")
