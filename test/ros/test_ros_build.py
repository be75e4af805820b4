"""The package in a built workspace: what is installed, messages and definitions, commands and launch files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from support import ROOT
from support.ros_contract import CONSTANTS, CONTRACT, fields
from support.ros_workspace import needs_ros
from vps_ros.messages.images import ENCODINGS
from vps_ros.messages.typestore import typestore


def share(package):
    """Where an installed ROS package keeps its share."""
    folders = [Path(prefix, "share", package) for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)]
    return next(folder for folder in folders if folder.is_dir())


@needs_ros
@pytest.mark.slow
def test_the_package_builds_and_installs_what_it_needs(built):
    assert "warning" not in built.shown.lower()
    for name in ("__init__.py", "weights/streets-s.onnx", "messages/definitions/vision_msgs/LabelInfo.msg", "msg"):
        assert (built.site / name).exists(), name
    views = ("config/vps.yaml", "config/cameras.yaml", "config/vps.rviz", "config/foxglove.json")
    for name in (*views, "launch/replay.launch.py", "launch/vps.launch.py", *(f"msg/{m}.msg" for m in CONTRACT)):
        assert (built.share / name).is_file(), name
    assert (built.site / "config.py").is_symlink() == ("symlink" in str(built.folder))


@needs_ros
@pytest.mark.slow
@pytest.mark.parametrize("first", ["installed", "source"])
def test_messages_and_core_live_in_one_process(built, first):
    code = f"""
import sys
sys.path[:0] = {[str(built.source)] if first == "source" else []}
import json
import vps_ros.msg
from vps_ros import Config, OnlinePanoptic
from vps_ros.messages.panoptic import OUTPUTS
from vps_ros.messages.typestore import typestore
assert typestore().types["vps_ros/msg/TrackedObjects"]
assert Config() and callable(OnlinePanoptic)
messages = [getattr(vps_ros.msg, name) for name in {list(CONTRACT)}]
fields = {{m.__name__: m.get_fields_and_field_types() for m in messages}}
constants = {{name: getattr(vps_ros.msg.TrackedObject, name) for name in {list(CONSTANTS)}}}
print(json.dumps([vps_ros.__file__, fields, constants]))
"""
    where, found, constants = json.loads(built.python(code).splitlines()[-1])
    assert Path(where).parent == (built.source / "vps_ros" if first == "source" else built.site)
    assert constants == CONSTANTS
    for name, text in CONTRACT.items():
        rows = [line.split() for line in text.splitlines() if line.strip() and "=" not in line]
        assert found[name] == {field: python_type(kind) for kind, field in rows}


def python_type(kind):
    """As rclpy names the types of fields."""
    kind, many, _ = kind.partition("[]")
    kind = {"float32": "float", "bool": "boolean"}.get(kind, kind)
    kind = f"vps_ros/{kind}" if kind in CONTRACT else kind
    return f"sequence<{kind}>" if many else kind


@needs_ros
@pytest.mark.slow
def test_ros2_shows_the_messages(workspace):
    shown = workspace.ros2("interface", "show", "vps_ros/msg/TrackedObject", "--no-comments").stdout
    own = [" ".join(line.split("#")[0].split()) for line in shown.splitlines() if not line.startswith("\t")]
    expected = [" ".join(line.split()) for line in CONTRACT["TrackedObject"].splitlines() if line.strip()]
    assert [line.replace(" = ", "=") for line in own if line] == expected
    assert workspace.ros2("interface", "show", "vps_ros/msg/PanopticSegments").returncode == 0


@needs_ros
@pytest.mark.slow
def test_definitions_are_those_of_the_installed_packages(workspace, replayed):
    with AnyReader([replayed / "file.mcap"]) as bag:
        embedded = {connection.msgtype: bag.typestore for connection in bag.connections}
    assert {"vision_msgs/msg/Detection2DArray", "vision_msgs/msg/LabelInfo", "sensor_msgs/msg/Image"} < set(embedded)
    for full, store in embedded.items():
        package, _, name = full.split("/")
        path = workspace.share if package == "vps_ros" else share(package)
        assert store.fielddefs[full] == fields((path / "msg" / f"{name}.msg").read_text(), full)
        described = path / "msg" / f"{name}.json"
        if described.is_file():
            # From Iron on, the hash covers every message inside too.
            hashes = {h["type_name"]: h["hash_string"] for h in json.loads(described.read_text())["type_hashes"]}
            assert store.hash_rihs01(full) == hashes[full]
    for path in sorted((ROOT / "vps_ros" / "messages" / "definitions" / "vision_msgs").iterdir()):
        full = f"vision_msgs/msg/{path.stem}"
        assert typestore().fielddefs[full] == fields((share("vision_msgs") / "msg" / path.name).read_text(), full)


@needs_ros
def test_every_encoding_of_pictures_that_ros_names_is_read():
    """Those that cv_bridge could turn into colours: what has a name of its own, and not that of a type (32FC1)."""
    (header,) = share("sensor_msgs").parent.parent.glob("include/**/sensor_msgs/image_encodings.hpp")
    named = set(re.findall(r'^const char (?!TYPE_)\w+\[\] = "(\w+)";', header.read_text(), re.MULTILINE))
    assert {"rgb8", "mono16", "bayer_grbg16", "yuv422_yuy2", "nv24"} <= named <= set(ENCODINGS)


@needs_ros
@pytest.mark.slow
def test_ros2_run_finds_the_command(workspace, replayed):
    shown = workspace.ros2("run", "vps_ros", "vps-ros", "--help")
    assert shown.returncode == 0
    assert "track every object of a recorded drive" in shown.stdout
    done = workspace.ros2("run", "vps_ros", "vps-ros", "inspect", str(replayed / "file.mcap"))
    assert done.returncode == 0
    assert "/vps/tracks" in done.stdout
    assert workspace.ros2("run", "vps_ros", "vps-ros", "replay", "absent", "-o", "out.mcap").returncode != 0


@needs_ros
@pytest.mark.slow
@pytest.mark.parametrize("name", ["vps", "vps-ros"])
def test_a_missing_requirement_is_one_line(workspace, tmp_path, name):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    done = workspace.run(
        bare / "bin" / "python", workspace.folder / "install/vps_ros/lib/vps_ros" / name, "inspect", "x"
    )
    assert done.returncode == 1
    assert re.fullmatch(rf"{name}: \S+ has no \w+; install the Python requirements of vps_ros .*\n", done.stdout)


@needs_ros
@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "arguments"),
    [
        ("replay", {"bag", "output", "topic", "model", "config", "overlay", "json", "force", "node", "rate"}),
        (
            "vps",
            {"image", "cameras", "model", "config", "reliability", "name", "namespace", "autostart", "use_sim_time"}
            | {"log_level", "respawn", "overlay", "rviz", "depth", "objects_frame", "clip_length", "clip_overlap"},
        ),
    ],
)
def test_the_launch_file_describes_its_arguments(workspace, launch, arguments):
    shown = workspace.ros2("launch", "vps_ros", f"{launch}.launch.py", "--show-args").stdout
    found = re.findall(r"^    '(\w+)':\n        (.+)$", shown, re.MULTILINE)
    assert {name for name, _ in found} == arguments
    assert "no description" not in shown.lower()


@needs_ros
@pytest.mark.slow
def test_launch_replays(workspace, replayed, tmp_path):
    arguments = [f"bag:={replayed / 'bag'}", f"output:={tmp_path / 'out.mcap'}", f"model:={replayed / 'colours.onnx'}"]
    done = workspace.ros2("launch", "vps_ros", "replay.launch.py", *arguments, f"json:={tmp_path / 'f.json'}")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out.mcap").read_bytes() == (replayed / "file.mcap").read_bytes()
    assert json.loads((tmp_path / "f.json").read_text())["frames"] == 6
    again = workspace.ros2("launch", "vps_ros", "replay.launch.py", *arguments)
    assert again.returncode == 1
    assert "exists; pass --force" in again.stdout
    assert "exit code 2" in again.stdout
    assert workspace.ros2("launch", "vps_ros", "replay.launch.py", *arguments, "force:=true").returncode == 0


@needs_ros
@pytest.mark.slow
def test_a_failed_replay_fails_its_launch(workspace, tmp_path):
    done = workspace.ros2("launch", "vps_ros", "replay.launch.py", "bag:=absent", f"output:={tmp_path / 'out.mcap'}")
    assert done.returncode == 1
    assert "absent: no such file" in done.stdout
    assert not (tmp_path / "out.mcap").exists()
