"""Shared fixtures: folders of real recordings, a small model, and a private DDS domain."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from support import ROOT

# A slow machine must not fail a test, and a run has the examples of the run before; `random` has new ones in each run.
settings.register_profile("vps_ros", deadline=None, derandomize=True, database=None)
settings.register_profile("random", deadline=None, derandomize=False)
settings.load_profile("vps_ros")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real recordings; tests that need it are skipped where it is absent."""
    return external_folder("VPS_ROS_REALDATA", "realdata", "real recordings")


@pytest.fixture(scope="session")
def oddfiles() -> Path:
    """Folder of unusual recordings; tests that need it are skipped where it is absent."""
    return external_folder("VPS_ROS_ODDFILES", "oddfiles", "unusual recordings")


def external_folder(variable: str, name: str, content: str) -> Path:
    """A folder that is no part of the project; without it, the test is skipped."""
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not folder.is_dir():
        pytest.skip(f"no {content} at {folder}; set {variable} to their folder")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the models of a test file."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    """Path of a model whose classes are colours."""
    from support.worlds import colour_model

    return str(colour_model(folder / "colours.onnx"))


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
