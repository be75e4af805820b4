"""Parameter files of the node: flat YAML (`name: value`) as ROS reads it. Needs no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml

from vps_ros.errors import InputError
from vps_ros.reading import read_yaml


def ros_parameter_files(path: str) -> list[str]:
    """The parameter files to start a node with; none where `path` or the file is empty.

    A ROS parameter file is returned as it is. Flat YAML, as `vps-ros --config` takes it, is written to a temporary ROS
    parameter file for every node (`/**`). Raises InputError for a file that is missing or is neither of the two.
    """
    content = read_yaml(path) if path else None
    if content is None:
        return []
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds no mapping; write one `name: value` a line")
    if _has_node(content):
        return [str(Path(path).absolute())]
    if nested := [name for name, value in content.items() if isinstance(value, Mapping)]:
        raise InputError(
            f"{path}: {nested[0]} holds a mapping, which only a ROS parameter file may have; put all parameters under "
            "'/**:' and 'ros__parameters:' as in config/vps.yaml"
        )
    # rcl reads the file while the node starts, so that this process cannot tell when to delete it.
    with NamedTemporaryFile("w", prefix="vps_parameters_", suffix=".yaml", delete=False, encoding="utf-8") as file:
        yaml.safe_dump({"/**": {"ros__parameters": dict(content)}}, file, allow_unicode=True)
    return [file.name]


def _has_node(content: Any) -> bool:
    """Whether `ros__parameters` stands at any depth: names of nodes may follow names of namespaces."""
    return isinstance(content, Mapping) and ("ros__parameters" in content or any(map(_has_node, content.values())))
