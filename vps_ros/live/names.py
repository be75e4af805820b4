"""Names of topics, as ROS 2 takes them."""

from __future__ import annotations

import re

from vps_ros.errors import InputError

_NAME = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


def absolute(name: str) -> str:
    """The name with its slash in front; raises InputError when ROS would not take it."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no topic's name; give letters, digits and _ between slashes: /camera/image_raw")
    return name if name.startswith("/") else f"/{name}"
