"""The launch file of the node, launched and ended by launch_testing."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from support import ROOT, SUPPORT

NEEDED = {
    "rclpy": "no ROS 2 is sourced",
    "launch_testing": "install ROS's package launch_testing",
    "vps_ros.msg": "no workspace with vps_ros is sourced",
}
# Looked for and not imported: launch makes every logger that comes after it one that nobody else hears.
for module, why in NEEDED.items():
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{why}: {module} is missing", allow_module_level=True)


@pytest.mark.slow
def test_the_launch_file_as_launch_testing_has_it(tmp_path):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ROS_LOG_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "launch_testing.launch_test", SUPPORT / "ros_launched.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    # Two launches; of each, two tests while it runs and one after its end.
    assert re.findall(r"^Ran (\d+) tests? in", done.stderr, re.MULTILINE) == ["2", "1"] * 2
