"""Generates config/vps.yaml and docs/parameters.md from the declarations: `python docs/make_parameters.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from vps_ros.config import DEFAULT_TRACKER, PIPELINE, TRACKERS, LiveConfig, NodeConfig, parameters, tracker_parameters
from vps_ros.parameters import Parameter

ROOT = Path(__file__).resolve().parent.parent


def parameter_file() -> str:
    """A ROS parameter file with all defaults and their meanings; `vps-ros replay --config` reads it too.

    Parameters of the tracker are comments: as values they would also apply to another tracker.
    """
    lines = ["/**:", "  ros__parameters:"]
    for p in (*PIPELINE, *parameters(LiveConfig), *parameters(NodeConfig)):
        lines += [f"    # {_facts(p)}", f"    {p.name}: {_yaml(p.default)}"]
    lines += [
        "",
        f"    # Of the tracker {DEFAULT_TRACKER}; docs/parameters.md has the parameters and defaults of the others.",
    ]
    for p in tracker_parameters(DEFAULT_TRACKER):
        lines += [f"    # {_facts(p)}", f"    # {p.name}: {_yaml(p.default)}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The page docs/parameters.md."""
    lines = [
        "# Parameters",
        "",
        "How do I set a parameter?",
        "",
        "| where | how |",
        "|---|---|",
        "| command line | `vps-ros replay drive.mcap -o tracked.mcap --memory-tau 20`; overrides the file |",
        "| YAML file | `memory_tau: 20.0`, and `--config mine.yaml`; `config/vps.yaml` has all defaults |",
        '| Python | `vps.Config(memory_tau=20.0)`, `vps.Config.from_yaml("mine.yaml")` |',
        "| ROS node | the parameter `memory_tau` ([ros.md](ros.md)) |",
        "",
        "A *live* parameter can be changed while the pipeline runs. An unknown name or a value that is not allowed is",
        "an error. This page is generated from the declarations in the code by `docs/make_parameters.py`.",
        "",
        "## Of the pipeline",
        "",
        *_rows(PIPELINE),
        "",
        "## Of live hosts",
        "",
        "For `vps-ros live` and the ROS node only; `replay` and `track` ignore them in a file.",
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
        "`tracker` decides which of these tables applies; [trackers.md](trackers.md) explains each tracker. On the",
        "command line, `vps-ros replay --tracker sort --help` shows its parameters. A parameter of another tracker is",
        "ignored with a warning. So is the value -1, which earlier releases used for the tracker's default.",
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
