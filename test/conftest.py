"""What tests share: where the real recordings are."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real recordings; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VPS_ROS_REALDATA", ROOT.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set VPS_ROS_REALDATA to their folder")
    return folder
