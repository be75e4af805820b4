"""Writes docs/benchmarks.md from benchmarks/results/*.json: `python docs/make_benchmarks.py`.

It also fills the other pages between `<!-- bench NAME -->` and `<!-- end of bench -->` with the tables of a benchmark.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vps_ros.commands.bench import load, tables  # noqa: E402

HEAD = """# Benchmarks

Made by `docs/make_benchmarks.py` from `benchmarks/results/*.json`, which `vps-ros bench NAME --json FILE` writes.
Each figure stands beside a named alternative on the same input in the same run.
"""


RESULTS = ROOT / "benchmarks" / "results"
FILLED = re.compile(r"(?<=<!-- bench )(\w+)( -->\n).*?(?=<!-- end of bench -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with the tables of the benchmarks that it names."""

    def tables_of(match: re.Match[str]) -> str:
        result = json.loads((RESULTS / f"{match[1]}.json").read_text())
        made = [_table(f"{t[0].upper()}{t[1:]}:", c, r) for t, c, r in tables(load(match[1]), result)]
        return f"{match[1]}{match[2]}\n" + "\n".join(made) + "\n"

    return FILLED.sub(tables_of, text)


def page() -> str:
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        module = load(result["benchmark"])
        parts += [f"## {result['benchmark']}\n", module.__doc__.strip() + "\n", _machine(result["machine"])]
        for title, columns, rows in tables(module, result):
            parts.append(_table(f"### {title[0].upper()}{title[1:]}", columns, rows))
    return "\n".join(parts)


def _machine(facts: dict) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    busy = f"the machine's load was {facts['load']:.1f} at the start"
    return f"Measured on: {facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {packages}; {busy}.\n"


def _table(title: str, columns: list[str], rows: list[list[object]]) -> str:
    lines = [title, "", _row(columns), "|---" * len(columns) + "|"]
    return "\n".join([*lines, *(_row(row) for row in rows)]) + "\n"


def _row(values: list[object]) -> str:
    return "| " + " | ".join(_cell(value) for value in values) + " |"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    (ROOT / "docs" / "benchmarks.md").write_text(page())
    for document in (ROOT / "docs").glob("*.md"):
        document.write_text(filled(document.read_text()))
