"""Writes config/vps.yaml and docs/parameters.md from the declarations: `python docs/make_parameters.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from vps_ros.config import DEFAULT_TRACKER, PIPELINE, TRACKERS, LiveConfig, NodeConfig, parameters, tracker_parameters
from vps_ros.parameters import Parameter

ROOT = Path(__file__).resolve().parent.parent


def parameter_file() -> str:
    """A ROS parameter file of every default, each with its meaning; `vps-ros replay --config` reads it too.

    Parameters of the tracker are comments: as values they would stay when another tracker is chosen.
    """
    lines = ["/**:", "  ros__parameters:"]
    for p in (*PIPELINE, *parameters(LiveConfig), *parameters(NodeConfig)):
        lines += [f"    # {_facts(p)}", f"    {p.name}: {_yaml(p.default)}"]
    lines += [
        "",
        f"    # Of the tracker {DEFAULT_TRACKER}; docs/parameters.md has those of the others, and their defaults.",
    ]
    for p in tracker_parameters(DEFAULT_TRACKER):
        lines += [f"    # {_facts(p)}", f"    # {p.name}: {_yaml(p.default)}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The same as Markdown tables, one for each tracker."""
    lines = [
        "# Parameters",
        "",
        "One list for the YAML file (`config/vps.yaml`), the command line (`--memory-tau 20`), the ROS node and",
        "Python (`Config(memory_tau=20.0)`). Made from the declarations beside the code by",
        "`docs/make_parameters.py`. *Live* ones may change while the pipeline runs.",
        "",
        *_rows(PIPELINE),
        "",
        "## Of what is live",
        "",
        "For `vps-ros live` and the ROS node only; `replay` and `track` read past them in a file.",
        "",
        *_rows(parameters(LiveConfig)),
        "",
        "## Of the node",
        "",
        "For the ROS node only.",
        "",
        *_rows(parameters(NodeConfig)),
        "",
        "## Of the tracker",
        "",
        "`tracker` chooses which of these tables holds ([trackers.md](trackers.md) explains each). On the command",
        "line, `vps-ros replay --tracker sort --help` shows them. A parameter of another tracker is ignored with a",
        "warning; so is -1, which used to stand for the tracker's default.",
    ]
    for tracker in TRACKERS:
        lines += ["", f"### {tracker}", "", *_rows(tracker_parameters(tracker), source=True)]
    return "\n".join(lines) + "\n"


def _rows(declared: Sequence[Parameter], source: bool = False) -> list[str]:
    columns = ["name", "type", "default", "allowed", "unit", "live", "meaning", *(["source"] if source else [])]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for p in declared:
        row = [p.name, p.type.__name__, _yaml(p.default), _allowed(p), p.unit, "yes" if p.live else "", p.meaning]
        lines.append("| " + " | ".join(row + ([p.source] if source else [])) + " |")
    return lines


def _facts(p: Parameter) -> str:
    allowed = _allowed(p)
    return p.meaning + (f" [{p.unit}]" if p.unit else "") + (f" ({allowed})" if allowed else "")


def _allowed(p: Parameter) -> str:
    if p.choices:
        return ", ".join(p.choices)
    return "" if p.low is None or p.high is None else f"{p.low:g} to {p.high:g}"


def _yaml(value: object) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()


if __name__ == "__main__":
    (ROOT / "config" / "vps.yaml").write_text(parameter_file())
    (ROOT / "docs" / "parameters.md").write_text(table())
