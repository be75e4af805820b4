"""What tests share: where the real recordings are, and a ROS 2 wire of their own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from support import ROOT

# A slow machine must not fail a test.
settings.register_profile("vps_ros", deadline=None)
settings.load_profile("vps_ros")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real recordings; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VPS_ROS_REALDATA", ROOT.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set VPS_ROS_REALDATA to their folder")
    return folder


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ROS 2 wire that nobody else is on, for this process and those that it starts."""
    from support.wire import environment

    for name, value in environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def wire(apart: None):
    """This process and others on that wire."""
    from support.wire import Wire

    wire = Wire()
    yield wire
    wire.close()
