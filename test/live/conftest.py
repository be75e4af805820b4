"""Models and workers for the tests of this folder."""

import pytest

from support.live_workers import PATIENCE
from support.worlds import slow_model
from vps_ros.live.worker import Worker


@pytest.fixture(scope="module")
def slow(folder):
    return str(slow_model(folder / "slow.onnx"))


@pytest.fixture
def working():
    """Starts a worker of these cameras, and ends it."""
    running = []

    def start(*cameras, **options):
        worker = Worker(cameras, **options)
        running.append(worker)
        worker.start()
        return worker

    yield start
    for worker in running:
        assert worker.stop(PATIENCE)
