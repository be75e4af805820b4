"""Shared fixtures: the folder of real recordings, and a private DDS domain."""

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


@pytest.fixture(scope="session")
def oddfiles() -> Path:
    """Folder of unusual recordings; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VPS_ROS_ODDFILES", ROOT.parent / "shared" / "oddfiles"))
    if not folder.is_dir():
        pytest.skip(f"no unusual recordings at {folder}; set VPS_ROS_ODDFILES to their folder")
    return folder


@pytest.fixture
def private_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DDS domain that nobody else is in, for this process and those that it starts."""
    from support.dds import environment

    for name, value in environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def dds(private_domain: None):
    """This process and others in that domain."""
    from support.dds import DdsSession

    dds = DdsSession()
    yield dds
    dds.close()
