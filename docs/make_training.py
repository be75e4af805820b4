"""Draws docs/images/training.png and fills the figures of docs/training.md from docs/training-log-*.jsonl.

`python docs/make_training.py`
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
SMOOTHED = 10
"""Entries of the log that each drawn point of a loss averages."""
LOSSES = {
    "final_dice": "1 - dice, final masks",
    "semantic": "semantic cross entropy",
    "track": "association, equation 1",
    "offset": "offset to the centre",
}


def read() -> tuple[list[dict], list[int]]:
    """The logs of all runs one after the other, steps counted on, and the first step of each run but the first."""
    log, starts = [], []
    for path in sorted(DOCS.glob("training-log-*.jsonl")):
        before = log[-1]["step"] if log else 0
        starts += [before] if before else []
        log += [{**e, "step": e["step"] + before} for e in map(json.loads, path.read_text().splitlines())]
    return log, starts


def draw(log: list[dict], starts: list[int], path: Path) -> None:
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
        for start in starts:
            axes.axvline(start, color="grey", linestyle=":")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def figures(log: list[dict]) -> str:
    """Tables of the validation over the run, and of its last one by class, in percent."""
    checks = [e for e in log if "validation" in e]
    lines = ["| step | PQ | things | stuff | mIoU |", "|---|---|---|---|---|"]
    for e in [*checks[:-1:2], checks[-1]]:
        cells = (f"{100 * e['validation'][k]:.1f}" for k in ("pq", "pq_things", "pq_stuff", "miou"))
        lines.append(f"| {e['step']} | {' | '.join(cells)} |")
    classes = checks[-1]["pq_of"]
    lines += ["", "PQ by class at the end: " + ", ".join(f"{c} {100 * v:.0f}" for c, v in classes.items()) + "."]
    return "\n".join(lines)


def fill(page: str, text: str) -> str:
    """The page with the text between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


if __name__ == "__main__":
    entries, runs = read()
    draw(entries, runs, DOCS / "images" / "training.png")
    document = DOCS / "training.md"
    document.write_text(fill(document.read_text(), figures(entries)))
