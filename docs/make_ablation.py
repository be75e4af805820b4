"""Fills the tables of docs/ablation.md and docs/clips.md from their figures, and draws docs/images/ablation-*.png.

vps-ros ablate --sweeps --jobs 2 --json docs/ablation.json --force
python docs/make_ablation.py

docs/clips.md says how docs/ablation-clips.json is made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from vps_ros.ablation.report import draw, tables  # noqa: E402

BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
DIGITS = 1
FIGURES = {"ablation.md": "ablation.json", "clips.md": "ablation-clips.json"}
"""Page -> file of its figures."""
NEAR_ONLINE = ("AQ of online", "AQ by", "Pairs compared")
"""First words of the tables that docs/clips.md shows."""


def text(document: dict) -> str:
    """What was run, and its tables; of online and near-online, those that compare the two."""
    near_online = "clips" in document["plan"]["masks"]
    plan, machine = document["plan"], document["machine"]
    seeds = f"{plan['seed']} to {plan['seed'] + plan['drives'] - 1}"
    lines = [
        f"{plan['drives']} drives of {plan['frames']} frames of {plan['size'][0]}x{plan['size'][1]} for each scenario "
        f"(seeds {seeds}), model {plan['model']}; {machine['cpu']}, {machine['cores']} cores, Python "
        f"{machine['python']}, {plan['jobs']} processes at once. Shares in percent.",
        "",
    ]
    for title, columns, rows in tables(document):
        if near_online and not title.startswith(NEAR_ONLINE):
            continue
        lines += [f"### {title[0].upper()}{title[1:]}", "", _row(columns), "|---" * len(columns) + "|"]
        lines += [*map(_row, rows), ""]
    return "\n".join(lines)


def fill(page: str, words: str) -> str:
    """The page with the words between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{words}\n{END}{after}"


def _row(values: list[object]) -> str:
    return "| " + " | ".join(_cell(value) for value in values) + " |"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    draw(json.loads((DOCS / "ablation.json").read_text()), DOCS / "images")
    for name, figures in FIGURES.items():
        page = DOCS / name
        page.write_text(fill(page.read_text(), text(json.loads((DOCS / figures).read_text()))))
