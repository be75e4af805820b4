"""The ROS package: its definitions everywhere; its build, bags and launch file where ROS 2 is installed."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.typesys import get_types_from_msg

import vps_ros
from support import ROOT, SUPPORT
from support.bags import START, TENTH, TOPIC, TYPES, drive, jpeg, plain, raw, write
from support.worlds import colour_model, picture
from vps_ros.commands.main import main
from vps_ros.frame import AssociatedBy, TrackState
from vps_ros.messages.images import ENCODINGS
from vps_ros.messages.panoptic import OUTPUTS
from vps_ros.messages.typestore import typestore

MISSING = [tool for tool in ("ros2", "colcon") if shutil.which(tool) is None]
MISSING += [module for module in ("rclpy",) if importlib.util.find_spec(module) is None]
needs_ros = pytest.mark.skipif(bool(MISSING), reason=f"no ROS 2 workspace is sourced: {', '.join(MISSING)} missing")
needs_rosbag2 = pytest.mark.skipif(importlib.util.find_spec("ros2bag") is None, reason="rosbag2 is not installed")

CONTRACT = {
    "TrackedObject": """
        uint8 TENTATIVE=0
        uint8 CONFIRMED=1
        uint8 LOST=2
        uint8 NEW=0
        uint8 PIXELS=1
        uint8 MEMORY=2
        uint8 INSTANCE=3
        uint32 track_id
        uint16 segment_id
        uint16 class_id
        string class_name
        float32 score
        uint8 state
        uint8 associated_by
        float32 association_score
        sensor_msgs/RegionOfInterest roi
        float32 velocity_x
        float32 velocity_y
        uint32 area
        builtin_interfaces/Time first_seen
        builtin_interfaces/Time last_seen
        uint32 hits
    """,
    "TrackedObjects": """
        std_msgs/Header header
        uint32 sequence_id
        TrackedObject[] objects
    """,
    "PanopticSegment": """
        uint16 segment_id
        uint16 class_id
        string class_name
        bool is_thing
        float32 score
        uint32 area
        uint32 track_id
    """,
    "PanopticSegments": """
        std_msgs/Header header
        string taxonomy
        PanopticSegment[] segments
    """,
}
CONSTANTS = {"TENTATIVE": 0, "CONFIRMED": 1, "LOST": 2, "NEW": 0, "PIXELS": 1, "MEMORY": 2, "INSTANCE": 3}


def fields(text, name):
    return get_types_from_msg(text, name)[name]


@pytest.mark.parametrize("name", CONTRACT)
def test_messages_are_those_of_the_contract(name):
    full = f"vps_ros/msg/{name}"
    here = (ROOT / "msg" / f"{name}.msg").read_text()
    assert fields(here, full) == fields(CONTRACT[name], full)
    assert typestore().fielddefs[full] == fields(CONTRACT[name], full)


def test_constants_of_the_messages_are_those_of_the_core():
    constants = {name: value for name, _, value in typestore().fielddefs["vps_ros/msg/TrackedObject"][0]}
    assert constants == CONSTANTS
    assert {member.name: int(member) for kind in (TrackState, AssociatedBy) for member in kind} == CONSTANTS


def test_every_message_is_built_and_no_other():
    listed = re.findall(r"msg/(\w+)\.msg", (ROOT / "CMakeLists.txt").read_text())
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "msg").iterdir()) == sorted(CONTRACT)


def test_no_module_hides_the_generated_ones():
    assert not (ROOT / "vps_ros" / "msg").exists()
    assert not (ROOT / "vps_ros" / "msg.py").exists()


def test_views_show_topics_that_there_are():
    topics = {f"/vps/{name}" for name in OUTPUTS} | {"/diagnostics"}
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text())
    placed = set(re.findall(r'"(\w+!\w+)"', json.dumps(layout["layout"])))
    assert placed == set(layout["configById"])
    shown = set(re.findall(r'"(/[\w/]+)', json.dumps(layout["configById"])))
    view = yaml.safe_load((ROOT / "config" / "vps.rviz").read_text())
    shown |= {display["Topic"]["Value"] for display in view["Visualization Manager"]["Displays"]}
    assert {"/vps/overlay", "/vps/panoptic", "/vps/tracks", "/diagnostics"} <= shown <= topics


def test_there_is_one_version():
    written = re.search(r'^__version__ = "([^"]+)"', (ROOT / "vps_ros" / "__init__.py").read_text(), re.M)[1]
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == written == vps_ros.__version__
    assert package.findtext("name") == "vps_ros"
    assert package.findtext("member_of_group") == "rosidl_interface_packages"


def test_what_cmake_finds_is_declared():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {e.text for e in package if e.tag in ("depend", "build_depend", "buildtool_depend")}
    tested = {e.text for e in package if e.tag == "test_depend"}
    found = set(re.findall(r"find_package\((\w+)", (ROOT / "CMakeLists.txt").read_text()))
    assert declared <= found <= declared | tested


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


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = Workspace(tmp_path_factory.mktemp(kind), kind == "symlink")
        return made[kind]

    return get


@pytest.fixture(params=["plain", "symlink"])
def built(request, workspaces):
    return workspaces(request.param)


@pytest.fixture
def workspace(workspaces):
    return workspaces("plain")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """Outputs of replay: one file, and a folder."""
    folder = tmp_path_factory.mktemp("replayed")
    model = colour_model(folder / "colours.onnx")
    bag = write(folder / "bag", drive(6))
    for output in ("file.mcap", "folder"):
        assert main(["replay", str(bag), "-o", str(folder / output), "--model", str(model)]) == 0
    return folder


def share(package):
    """Where an installed ROS package keeps its share."""
    folders = [Path(prefix, "share", package) for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)]
    return next(folder for folder in folders if folder.is_dir())


def contents(path):
    """Messages of a bag by topic, as JSON has them, with their types."""
    types, messages = {}, {}
    with AnyReader([Path(path)]) as bag:
        for connection, _, data in bag.messages():
            types[connection.topic] = connection.msgtype
            messages.setdefault(connection.topic, []).append(plain(bag.deserialize(data, connection.msgtype)))
    return types, messages


def played(workspace, path, out, late=None):
    """What rclpy subscribers hear while `ros2 bag play` plays the bag."""
    types, messages = contents(path)
    topics = {topic: (types[topic], len(messages[topic])) for topic in messages}
    arguments = [path, out, json.dumps(topics), *([late] if late else [])]
    done = workspace.run(sys.executable, SUPPORT / "ros_listener.py", *arguments)
    assert done.returncode == 0, done.stdout
    return json.loads(out.read_text())


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
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("output", ["file.mcap", "folder"])
def test_ros2_bag_info_reads_our_bags(workspace, replayed, output):
    shown = workspace.ros2("bag", "info", output, cwd=replayed).stdout
    rows = re.findall(r"Topic: (\S+) \| Type: (\S+) \| Count: (\d+) \| Serialization Format: (\S+)", shown)
    assert sorted(rows) == [
        ("/vps/detections", "vision_msgs/msg/Detection2DArray", "6", "cdr"),
        ("/vps/label_info", "vision_msgs/msg/LabelInfo", "1", "cdr"),
        ("/vps/panoptic", "sensor_msgs/msg/Image", "6", "cdr"),
        ("/vps/segments", "vps_ros/msg/PanopticSegments", "6", "cdr"),
        ("/vps/tracks", "vps_ros/msg/TrackedObjects", "6", "cdr"),
    ]
    assert re.search(r"Messages:\s+25\b", shown)
    assert float(re.search(r"Duration:\s+([\d.]+)", shown)[1]) == 0.5
    for name, stamp in (("Start", START), ("End", START + 5 * TENTH)):
        seconds, nanoseconds = re.search(rf"{name}:.*\((\d+)\.(\d+)\)", shown).groups()
        assert int(seconds) * 10**9 + int(nanoseconds.ljust(9, "0")) == stamp


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("output", ["file.mcap", "folder"])
def test_ros2_bag_play_publishes_what_we_wrote(workspace, replayed, output, tmp_path):
    received = played(workspace, replayed / output, tmp_path / "received.json", late="/vps/label_info")
    _, written = contents(replayed / output)
    assert {topic: len(messages) for topic, messages in received.items()} == {
        "/vps/detections": 6,
        "/vps/label_info": 1,
        "/vps/panoptic": 6,
        "/vps/segments": 6,
        "/vps/tracks": 6,
    }
    assert received == written


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--compressed",), ("--storage", "sqlite3")], ids=" ".join)
def test_ros2_bag_play_publishes_packed_images(workspace, flags, tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(4):
        assert cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), picture({0: (8 * i, 40)})[:, :, ::-1])
    assert main(["pack", str(tmp_path / "images"), "-o", str(tmp_path / "bag"), *flags]) == 0
    received = played(workspace, tmp_path / "bag", tmp_path / "received.json")
    topic = f"{TOPIC}/compressed" if "--compressed" in flags else TOPIC
    assert received == contents(tmp_path / "bag")[1]
    for i, message in enumerate(received[topic]):
        data = np.array(message["data"], np.uint8)
        pixels = (
            cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1] if "--compressed" in flags else data.reshape(64, 96, 3)
        )
        assert np.array_equal(pixels, picture({0: (8 * i, 40)}))


# Messages that find the line to the compressor full are not recorded: it must hold them all.
ZSTD = ["--compression-format", "zstd", "--compression-queue-size", "100", "--compression-mode"]
RECORDINGS = {
    "mcap": ["-s", "mcap"],
    "mcap-chunks": ["-s", "mcap", "--storage-preset-profile", "zstd_fast"],
    "mcap-file": ["-s", "mcap", *ZSTD, "file"],
    "mcap-message": ["-s", "mcap", *ZSTD, "message"],
    "sqlite": ["-s", "sqlite3"],
    "sqlite-file": ["-s", "sqlite3", *ZSTD, "file"],
    "sqlite-message": ["-s", "sqlite3", *ZSTD, "message"],
}


@pytest.fixture(scope="module")
def recorded(workspaces, tmp_path_factory):
    """Recordings, by `ros2 bag record`, of one drive that rclpy publishes raw and compressed."""
    folder = tmp_path_factory.mktemp("recorded")
    messages = [*drive(6), *drive(6, f"{TOPIC}/compressed", jpeg)]
    given = {
        f"m{i}": np.frombuffer(TYPES.serialize_cdr(m, m.__msgtype__), np.uint8) for i, (_, _, m) in enumerate(messages)
    }
    topics, types = [topic for topic, _, _ in messages], [message.__msgtype__ for _, _, message in messages]
    np.savez(folder / "messages.npz", topics=topics, types=types, **given)
    arguments = [folder / "messages.npz", folder, json.dumps(RECORDINGS)]
    done = workspaces("plain").run(sys.executable, SUPPORT / "ros_recorder.py", *arguments)
    assert done.returncode == 0, done.stdout
    return folder


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "compressed"])
@pytest.mark.parametrize("name", RECORDINGS)
def test_replay_reads_what_ros2_bag_record_wrote(recorded, name, kind, tmp_path, capsys):
    topic, make = (TOPIC, raw) if kind == "raw" else (f"{TOPIC}/compressed", jpeg)
    model = colour_model(tmp_path / "colours.onnx")
    written = write(tmp_path / "written", drive(6, topic, make))
    for bag, output in ((recorded / name, "recorded.mcap"), (written, "expected.mcap")):
        assert main(["replay", str(bag), "-o", str(tmp_path / output), "--model", str(model), "--topic", topic]) == 0
        assert "skipped" not in capsys.readouterr().err
    assert contents(tmp_path / "recorded.mcap") == contents(tmp_path / "expected.mcap")
    assert len(contents(tmp_path / "recorded.mcap")[1]["/vps/tracks"]) == 6


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
            | {"log_level", "respawn", "overlay", "rviz"},
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
