"""The frames that a recipe names."""

from __future__ import annotations

from vps_ros.learning.clips import Source
from vps_ros.learning.data import FolderData, StreetsData
from vps_ros.learning.drives import Streets
from vps_ros.learning.folders import Folders


def source_of(data: StreetsData | FolderData) -> Source:
    """Where the frames of a recipe come from."""
    return Folders(data) if isinstance(data, FolderData) else Streets(data)
