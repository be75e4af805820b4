"""Writes config/vps.yaml and docs/parameters.md from vps_ros/config.py: `python docs/make_parameters.py`."""

from __future__ import annotations

from pathlib import Path

import yaml
from vps_ros.presets import PRESETS

from vps_ros.config import TRACKERS, Config, LiveConfig, NodeConfig, Parameter, parameters

ROOT = Path(__file__).resolve().parent.parent


def parameter_file() -> str:
    """A ROS parameter file of every default, each with its meaning; `vps-ros replay --config` reads it too."""
    lines = ["/**:", "  ros__parameters:"]
    for p in (*parameters(Config), *parameters(LiveConfig), *parameters(NodeConfig)):
        lines += [f"    # {_facts(p)}", f"    {p.name}: {_yaml(p.default)}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The same as a Markdown table."""
    lines = [
        "# Parameters",
        "",
        "One list for the YAML file (`config/vps.yaml`), the command line (`--memory-tau 20`) and the ROS node.",
        "Made from `vps_ros/config.py` by `docs/make_parameters.py`. *Live* ones may change while the pipeline runs.",
    ]
    lines += ["", *_rows(Config), "", "## Of what is live", ""]
    lines += ["For `vps-ros live` and the ROS node only; `replay` and `track` read past them in a file.", ""]
    lines += [*_rows(LiveConfig), "", "## Of the node", "", "For the ROS node only.", "", *_rows(NodeConfig)]
    return "\n".join(lines + _own_values()) + "\n"


def _rows(kind: type) -> list[str]:
    lines = ["| name | type | default | allowed | unit | live | meaning |", "|---|---|---|---|---|---|---|"]
    for p in parameters(kind):
        row = (p.name, p.type.__name__, _yaml(p.default), _allowed(p), p.unit, "yes" if p.live else "", p.meaning)
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _own_values() -> list[str]:
    lines = [
        "",
        "## Each tracker's own values",
        "",
        "What a parameter of -1 stands for. A parameter that is missing here is not used by that tracker; those whose",
        "default is not -1 hold for all. Each tracker is explained in [trackers.md](trackers.md).",
        "",
        "| tracker | parameter | value | from |",
        "|---|---|---|---|",
    ]
    for tracker in TRACKERS:
        for name, preset in PRESETS[tracker].items():
            lines.append(f"| {tracker} | {name} | {preset.value:g} | {preset.source} |")
    return lines


def _facts(p: Parameter) -> str:
    allowed = _allowed(p)
    return p.meaning + (f" [{p.unit}]" if p.unit else "") + (f" ({allowed})" if allowed else "")


def _allowed(p: Parameter) -> str:
    if p.choices:
        return ", ".join(p.choices)
    if p.low is None or p.high is None:
        return ""
    return f"{p.low:g} to {p.high:g}" if p.least is None else f"-1, or {p.least:g} to {p.high:g}"


def _yaml(value: object) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()


if __name__ == "__main__":
    (ROOT / "config" / "vps.yaml").write_text(parameter_file())
    (ROOT / "docs" / "parameters.md").write_text(table())
