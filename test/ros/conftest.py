"""A session of ROS, models, the log, and commands in a ROS shell, for the tests of this folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT
from support.bags import drive, write
from support.worlds import colour_model
from vps_ros.commands.main import main


@pytest.fixture
def ros():
    # Imported late: this file is read where ROS is missing, too.
    from support.ros_session import RosSession

    ros = RosSession()
    yield ros
    ros.close()


@pytest.fixture
def log(capfd):
    from support.ros_session import Log

    return Log(capfd)


@pytest.fixture
def process(tmp_path):
    """Starts commands as a shell does; kills those that still run at the end."""
    from support.ros_session import DOMAIN

    # A shell that has the tests in its background has them ignore SIGINT, and so would what they start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    started = []
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    where = {"ROS_DOMAIN_ID": str(DOMAIN), "ROS_LOG_DIR": str(tmp_path / "ros"), "PYTHONPATH": os.pathsep.join(paths)}
    where["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def start(*command, **environment):
        with (tmp_path / f"{len(started)}.log").open("w") as log:
            one = subprocess.Popen(
                [*map(str, command)],
                env={**os.environ, **where, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        one.log = tmp_path / f"{len(started)}.log"
        started.append(one)
        return one

    yield start
    for one in started:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


@pytest.fixture(scope="session")
def workspaces(tmp_path_factory):
    from support import ros_workspace

    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = ros_workspace.Workspace(tmp_path_factory.mktemp(kind), kind == "symlink")
        return made[kind]

    return get


@pytest.fixture(params=["plain", "symlink"])
def built(request, workspaces):
    return workspaces(request.param)


@pytest.fixture
def workspace(workspaces):
    return workspaces("plain")


@pytest.fixture(scope="session")
def replayed(tmp_path_factory):
    """Outputs of replay: one file, and a folder."""
    folder = tmp_path_factory.mktemp("replayed")
    model = colour_model(folder / "colours.onnx")
    bag = write(folder / "bag", drive(6))
    for output in ("file.mcap", "folder"):
        assert main(["replay", str(bag), "-o", str(folder / output), "--model", str(model)]) == 0
    return folder
