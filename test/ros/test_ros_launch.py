"""The launch files: their arguments, what they refuse before anything starts, and failures of what they start."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from support import ROOT, SUPPORT
from support.bags import TOPIC, drive, raw, string, write
from support.worlds import colour_model
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.ros.parameter_file import ros_parameter_files

NEEDED = {
    "rclpy": "no ROS 2 is sourced",
    "launch_testing": "install ROS's package launch_testing",
    "vps_ros.msg": "no workspace with vps_ros is sourced",
}
# Looked for and not imported: launch makes every logger that comes after it one that nobody else hears.
MISSING = [f"{why}: {module} is missing" for module, why in NEEDED.items() if importlib.util.find_spec(module) is None]
needs_ros = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))
needs_rosbag2 = pytest.mark.skipif(importlib.util.find_spec("ros2bag") is None, reason="rosbag2 is not installed")
PATIENCE = 120.0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture
def launch(process):
    """Starts a launch file of this tree."""
    return lambda name, *arguments, **environment: process(
        "ros2", "launch", ROOT / "launch" / f"{name}.launch.py", *arguments, **environment
    )


def shown(launched, pattern, count=1):
    """Waits for as many matches of the pattern in what a launch prints; returns them."""
    end = time.monotonic() + PATIENCE
    while len(found := re.findall(pattern, launched.log.read_text())) < count:
        assert launched.poll() is None, launched.log.read_text()
        assert time.monotonic() < end, f"{pattern!r} is not in {launched.log.read_text()}"
        time.sleep(0.05)
    return found


def failed(launched):
    """What a launch printed that ended with exit code 1."""
    assert launched.wait(PATIENCE) == 1, launched.log.read_text()
    return launched.log.read_text()


def started(log):
    """The process ids of what a launch has started."""
    return [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", log)]


def installed(folder, package, program, script):
    """AMENT_PREFIX_PATH with a package before all others; `script` is its program, or None."""
    marker = folder / "share" / "ament_index" / "resource_index" / "packages" / package
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    if script is not None:
        path = folder / "lib" / package / program
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["AMENT_PREFIX_PATH"]])


# Parameter files


def test_a_flat_file_becomes_a_ros_file_with_the_same_parameters(tmp_path):
    flat = tmp_path / "flat.yaml"
    flat.write_text("model: 'on'  # a text\nproviders: [cpu]\nmemory_tau: 20\nflow_preset: fast\n")
    (made,) = ros_parameter_files(str(flat))
    assert yaml.safe_load(Path(made).read_text()) == {"/**": {"ros__parameters": yaml.safe_load(flat.read_text())}}
    assert Config.from_yaml(made) == Config.from_yaml(flat)
    Path(made).unlink()


@pytest.mark.parametrize("keys", ["/**:", "/vps:", "rig:\n  vps:", "/other:\n  ros__parameters: {}\n/vps:"])
def test_a_ros_file_is_used_as_it_is(tmp_path, keys):
    path = tmp_path / "ros.yaml"
    path.write_text(f"{keys}\n    ros__parameters:\n      memory_tau: 20\n")
    assert ros_parameter_files(str(path)) == [str(path)]


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n"])
def test_without_parameters_there_is_no_file(tmp_path, text):
    path = tmp_path / "empty.yaml"
    path.write_text(text or "")
    assert ros_parameter_files("" if text is None else str(path)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n", "holds no mapping"),
        ("model: [a\n", "not readable as YAML"),
        ("memory_tau: 20\nqos_overrides: {/image: {}}\n", "qos_overrides holds a mapping, which only a ROS parameter"),
    ],
)
def test_another_file_is_refused(tmp_path, text, words):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"^{path}: .*{words}"):
        ros_parameter_files(str(path))


# vps.launch.py


@needs_ros
@pytest.mark.slow
def test_the_launch_file_as_launch_testing_has_it(tmp_path):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ROS_LOG_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "launch_testing.launch_test", SUPPORT / "ros_launched.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    # Two launches; of each, two tests while it runs and one after its end.
    assert re.findall(r"^Ran (\d+) tests? in", done.stderr, re.MULTILINE) == ["2", "1"] * 2


@needs_ros
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["config:=/no/such.yaml"], "/no/such.yaml: no such file"),
        (["image:=/image", "cameras:=front"], "image:= and cameras:= are both given"),
        (["cameras:=front=/a,front=/b"], "give each camera a name of its own"),
        (["respawn:=perhaps"], "respawn"),
    ],
    ids=["config", "image-and-cameras", "equal-cameras", "choice"],
)
def test_wrong_arguments_start_nothing(launch, arguments, words):
    log = failed(launch("vps", *arguments))
    assert words in log
    assert started(log) == []


@needs_ros
@pytest.mark.slow
@pytest.mark.parametrize(("viewer", "package"), [("overlay", "image_tools"), ("rviz", "rviz2")])
def test_without_its_viewer_nothing_is_started(launch, viewer, package, tmp_path):
    prefixes = installed(tmp_path / "prefix", package, None, None)
    log = failed(launch("vps", f"{viewer}:=true", AMENT_PREFIX_PATH=prefixes))
    assert f"{viewer}:=true needs" in log
    assert f"ros-$ROS_DISTRO-{package.replace('_', '-')}" in log
    assert started(log) == []


@needs_ros
@pytest.mark.slow
def test_viewers_get_the_outputs_and_their_failure_ends_the_node(launch, tmp_path):
    script = f'echo "viewer $*"; while [ ! -e {tmp_path}/end ]; do sleep 0.1; done; exit 3'
    installed(tmp_path / "prefix", "image_tools", "showimage", script)
    prefixes = installed(tmp_path / "prefix", "rviz2", "rviz2", script)
    options = ["name:=eye", "namespace:=rig", "cameras:=front=/rig/front/image_raw,left", "autostart:=false"]
    launched = launch("vps", *options, "overlay:=true", "rviz:=true", AMENT_PREFIX_PATH=prefixes)
    lines = shown(launched, "viewer .*", 3)
    assert sorted(re.findall(r"(?:image|/vps/\w+):=\S+", " ".join(lines))) == [
        "/vps/overlay:=eye/front/overlay",
        "/vps/panoptic:=eye/front/panoptic",
        "image:=eye/front/overlay",
        "image:=eye/left/overlay",
    ]
    assert all("__ns:=/rig" in line for line in lines)
    shown(launched, "waiting to be configured")
    (tmp_path / "end").touch()
    log = failed(launched)
    assert "ended with exit code 3" in log
    pids = started(log)
    assert len(pids) == 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@needs_ros
@pytest.mark.slow
@pytest.mark.parametrize("respawn", ["false", "true"])
def test_a_node_that_cannot_start_fails_its_launch(launch, respawn):
    log = failed(launch("vps", "model:=/no/such.onnx", f"respawn:={respawn}"))
    assert "/no/such.onnx" in log
    assert "ended with exit code 2" in log
    assert len(started(log)) == 1


@needs_ros
@pytest.mark.slow
def test_a_node_that_is_killed_fails_its_launch(launch):
    launched = launch("vps", "autostart:=false")
    shown(launched, "waiting to be configured")
    os.kill(*started(launched.log.read_text()), signal.SIGKILL)
    assert "ended with exit code -9" in failed(launched)


@needs_ros
@pytest.mark.slow
def test_a_node_that_is_killed_is_started_again(launch):
    launched = launch("vps", "autostart:=false", "respawn:=true")
    shown(launched, "waiting to be configured")
    os.kill(*started(launched.log.read_text()), signal.SIGKILL)
    shown(launched, "waiting to be configured", 2)
    launched.send_signal(signal.SIGINT)
    assert launched.wait(PATIENCE) == 0, launched.log.read_text()
    assert len(started(launched.log.read_text())) == 2


# replay.launch.py


@pytest.fixture
def bag(tmp_path):
    return write(tmp_path / "bag", [*drive(20), ("/notes", drive(1)[0][1], string("no image"))])


@needs_ros
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rate:=2"], "rate:= has no effect with node:=false"),
        (["node:=true", "json:=figures.json"], "json:= has no effect with node:=true"),
        (["node:=true", "overlay:=tracked.mp4"], "overlay:= has no effect with node:=true"),
        (["node:=true", "rate:=0"], "rate:=0: give a number greater than 0"),
        (["node:=true", "topic:=/notes"], f"topic:=/notes is none of its image topics; choose one of: {TOPIC} (20)"),
        (["node:=true", "bag:=/no/such.mcap"], "/no/such.mcap: no such file"),
        (["node:=true", "config:=/no/such.yaml"], "/no/such.yaml: no such file"),
    ],
    ids=lambda value: "-".join(value).replace(":=", "=") if isinstance(value, list) else "",
)
def test_wrong_arguments_of_a_replay_start_nothing(launch, bag, tmp_path, arguments, words):
    log = failed(launch("replay", f"bag:={bag}", f"output:={tmp_path / 'out'}", *arguments))
    assert words in log
    assert started(log) == []


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "words"),
    [("out.mcap", "give a name without .mcap"), ("bag", "is also the input"), ("full", "exists; pass force:=true")],
)
def test_an_output_that_cannot_be_recorded_starts_nothing(launch, bag, tmp_path, output, words):
    write(tmp_path / "full", drive(1))
    log = failed(launch("replay", f"bag:={bag}", f"output:={tmp_path / output}", "node:=true"))
    assert words in log
    assert started(log) == []
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


@needs_ros
@needs_rosbag2
@pytest.mark.slow
def test_the_node_replays_faster_and_replaces_a_recording(launch, bag, model, tmp_path):
    write(tmp_path / "out", drive(1))
    config = tmp_path / "flat.yaml"
    config.write_text("model: absent\nconfirm_hits: 1\ncameras: [front]\nautostart: false\n")
    options = [f"output:={tmp_path / 'out'}", f"config:={config}", f"model:={model}", "force:=true", "rate:=2.5"]
    launched = launch("replay", f"bag:={bag}", *options, "node:=true")
    assert launched.wait(PATIENCE) == 0, launched.log.read_text()
    log = launched.log.read_text()
    assert re.search(rf"results of \d+ of 20 images on {TOPIC}", log)
    assert "--rate 2.5" in log or "Set rate to 2.5" in log


@needs_ros
@needs_rosbag2
@pytest.mark.slow
def test_a_recorder_that_dies_fails_the_launch(launch, bag, model, tmp_path):
    (tmp_path / "file").touch()
    log = failed(
        launch("replay", f"bag:={bag}", f"output:={tmp_path / 'file' / 'out'}", f"model:={model}", "node:=true")
    )
    assert re.search(r"ros2-\d+ ended with exit code", log)


@needs_ros
@needs_rosbag2
@pytest.mark.slow
def test_a_recording_without_results_fails_the_launch(launch, model, tmp_path):
    """No image can be read: their encoding is unknown."""
    unknown = write(tmp_path / "bag", drive(3, make=lambda image, stamp: raw(image, stamp, "unknown8")))
    log = failed(launch("replay", f"bag:={unknown}", f"output:={tmp_path / 'out'}", f"model:={model}", "node:=true"))
    assert f"no result was recorded of the 3 images on {TOPIC}" in log
