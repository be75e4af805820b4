"""A colcon workspace with this package, built for tests; skips where no ROS 2 is sourced."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from support import ROOT
from support.bags import plain

MISSING = [tool for tool in ("ros2", "colcon") if shutil.which(tool) is None]
MISSING += [module for module in ("rclpy",) if importlib.util.find_spec(module) is None]
needs_ros = pytest.mark.skipif(bool(MISSING), reason=f"no ROS 2 workspace is sourced: {', '.join(MISSING)} missing")
needs_rosbag2 = pytest.mark.skipif(importlib.util.find_spec("ros2bag") is None, reason="rosbag2 is not installed")


class Workspace:
    """A built workspace; commands run in it as in a shell that sourced its setup file."""

    def __init__(self, folder, symlink):
        self.folder = folder
        self.source = folder / "src" / "vps_ros"
        self.source.mkdir(parents=True)
        for name in ("CMakeLists.txt", "package.xml", "LICENSE"):
            shutil.copy(ROOT / name, self.source)
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("msg", "launch", "config", "scripts", "vps_ros"):
            shutil.copytree(ROOT / name, self.source / name, ignore=ignore)
        # Tests that run at the same time elsewhere must not hear each other.
        domain = str(1 + os.getpid() % 100)
        self.environment = {
            "MAKEFLAGS": "-j2",
            **os.environ,
            "ROS_DOMAIN_ID": domain,
            "ROS_LOG_DIR": str(folder / "ros"),
        }
        self.environment.pop("PYTHONPATH", None)
        if paths := [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p) != ROOT]:
            self.environment["PYTHONPATH"] = os.pathsep.join(paths)
        flags = ["--symlink-install"] if symlink else []
        done = self._run(["colcon", "build", "--executor", "sequential", *flags], folder)
        assert done.returncode == 0, done.stdout
        self.shown = done.stdout
        script = '. "$0" && exec "$@"'
        self._sourced = ["bash", "-c", script, str(folder / "install" / "setup.bash")]
        self.site = next((folder / "install").glob("vps_ros/lib/python3*/site-packages/vps_ros"))
        self.share = folder / "install" / "vps_ros" / "share" / "vps_ros"

    def run(self, *command, cwd=None, extra=()):
        return self._run([*self._sourced, *map(str, command)], cwd or self.folder, dict(extra))

    def ros2(self, *command, cwd=None):
        """A ros2 command, with the Python of this test as the python3 that it finds."""
        path = os.pathsep.join([str(Path(sys.executable).parent), self.environment["PATH"]])
        return self.run("ros2", *command, cwd=cwd, extra={"PATH": path})

    def python(self, code, extra=()):
        done = self.run(sys.executable, "-c", code, extra=extra)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _run(self, command, cwd, extra=()):
        environment = {**self.environment, **dict(extra)}
        return subprocess.run(
            command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600
        )


def contents(path):
    """Messages of a bag by topic, as JSON has them, with their types."""
    types, messages = {}, {}
    with AnyReader([Path(path)]) as bag:
        for connection, _, data in bag.messages():
            types[connection.topic] = connection.msgtype
            messages.setdefault(connection.topic, []).append(plain(bag.deserialize(data, connection.msgtype)))
    return types, messages
