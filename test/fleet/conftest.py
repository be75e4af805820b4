"""Bags at a URI."""

import pytest

from support.bags import drive, write


@pytest.fixture
def drives(tmp_path):
    """Two rosbag2 folders, a file, and files that are no bags."""
    folder = tmp_path / "drives"
    (folder / "june").mkdir(parents=True)
    write(folder / "june" / "a", drive(3))
    write(folder / "b", drive(4))
    (part,) = write(tmp_path / "single", drive(2)).glob("*.mcap")
    part.rename(folder / "june" / "c.mcap")
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.mcap").write_text("hello")
    return folder
