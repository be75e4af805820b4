"""`ros2 launch vps_ros replay.launch.py bag:=drive.mcap output:=tracked.mcap`: track a recorded drive.

Every frame is tracked, and nothing is played. With `node:=true` the bag is played to the node in real time instead, and
the node's outputs are recorded: frames may be dropped, as on the vehicle.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from launch import LaunchContext
from launch.actions import EmitEvent, ExecuteProcess, LogInfo, OpaqueFunction, RegisterEventHandler, TimerAction
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown, matches_action
from launch.events.process import ShutdownProcess
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import ExecutableInPackage

from vps_ros.errors import InputError
from vps_ros.files import refuse_existing
from vps_ros.ros.launching import SWITCH, Argument, describe, fail_with_end, fail_with_process, require
from vps_ros.ros.parameter_file import ros_parameter_files

ARGUMENTS = {
    "bag": Argument("a .mcap or .db3 file, or a rosbag2 folder", None),
    "output": Argument("OUT.mcap for one file, any other name for a rosbag2 folder; with node:=true a folder", None),
    "topic": Argument("image topic; empty takes the only one"),
    "model": Argument("name of a shipped model, or path of an ONNX file", "streets-s"),
    "config": Argument("YAML file of parameters, flat or of ROS; empty takes the defaults"),
    "force": Argument("replace outputs that exist", "false", SWITCH),
    "overlay": Argument("video to draw the result to; empty draws none; not with node:=true"),
    "json": Argument("file to write the figures to; empty writes none; not with node:=true"),
    "node": Argument("play the bag to the node and record its outputs", "false", SWITCH),
    "rate": Argument("with node:=true: speed of the playback; empty or 1 is that of the recording"),
}
WITHOUT_EFFECT = {"true": ("overlay", "json"), "false": ("rate",)}
"""Value of node -> arguments that cannot be given with it."""
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
NAMES = ("tracks", "segments", "detections", "panoptic", "label_info")
RESULTS = {f"/vps/{name}" for name in NAMES}
_PATIENCE = 30.0
"""Seconds until the bag is played although the recorder has not subscribed to all results."""
_LAST = 2.0
"""Seconds to record the results of the last frames."""


def generate_launch_description():
    return describe(ARGUMENTS, _start)


def _start(value):
    for name in WITHOUT_EFFECT[value["node"]]:
        if value[name]:
            raise InputError(f"{name}:= has no effect with node:={value['node']}; leave it out")
    return _through_the_node(value) if value["node"] == "true" else _offline(value)


def _offline(value):
    command = [ExecutableInPackage("vps-ros", "vps_ros"), "replay", value["bag"], "-o", value["output"]]
    for name in ("topic", "model", "config", "overlay", "json"):
        if value[name]:
            command += [f"--{name}", value[name]]
    if value["force"] == "true":
        command.append("--force")
    return [ExecuteProcess(cmd=command, output="screen", on_exit=fail_with_process)]


def _through_the_node(value):
    speed = value["rate"] or "1"
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", speed) or float(speed) == 0:
        raise InputError(f"rate:={speed}: give a number greater than 0")
    topic, images = _image_topic(value["bag"], value["topic"])
    parameters = ros_parameter_files(value["config"])
    for package in ("ros2bag", "rosbag2_storage_mcap"):
        require(package, None, "node:=true")
    output = _free(Path(value["output"]), Path(value["bag"]), value["force"] == "true")
    model = ParameterValue(value["model"], value_type=str)
    own = {"model": model, "reliability": "reliable", "autostart": True, "cameras": [""]}
    node = LifecycleNode(
        package="vps_ros",
        executable="vps",
        name="vps",
        namespace="",
        parameters=[*parameters, own],
        remappings=[("image", topic)],
        output="screen",
        on_exit=fail_with_end,
    )
    ids = f"^/vps/({'|'.join(NAMES)}|panoptic_ids)$"
    record = ExecuteProcess(
        cmd=["ros2", "bag", "record", "-s", "mcap", "-o", str(output), "--regex", ids], output="screen"
    )
    play = ["ros2", "bag", "play", value["bag"], "--topics", topic, "--rate", speed, "--delay", "2"]
    play = ExecuteProcess(cmd=[*play, "--disable-keyboard-controls"], output="screen")
    log, played, stopped = [], [], []

    def start(*_):
        """Plays the bag, once."""
        if played:
            return []
        played.append(play)
        return [play]

    def listen(event):
        # Results of images played before the recorder has subscribed would be missing in the recording.
        log.append(event.text.decode(errors="replace"))
        return start() if set(re.findall(r"Subscribed to topic '(\S+)'", "".join(log))) >= RESULTS else []

    def stop(_):
        stopped.append(record)
        return [EmitEvent(event=ShutdownProcess(process_matcher=matches_action(record)))]

    def after_play(event, context):
        fail_with_process(event, context)
        return [TimerAction(period=_LAST, actions=[OpaqueFunction(function=stop)])]

    def after_record(event, context):
        if not stopped:
            return fail_with_end(event, context)
        recorded = _recorded(output, "/vps/tracks")
        if not recorded:
            raise RuntimeError(f"{output}: no result was recorded of the {images} images on {topic}")
        log = LogInfo(msg=f"{output}: results of {recorded} of {images} images on {topic}")
        return [log, EmitEvent(event=Shutdown(reason="end of the bag"))]

    late = TimerAction(period=_PATIENCE, actions=[OpaqueFunction(function=start)])
    return [
        node,
        record,
        RegisterEventHandler(OnProcessIO(target_action=record, on_stdout=listen, on_stderr=listen)),
        RegisterEventHandler(OnStateTransition(target_lifecycle_node=node, goal_state="active", entities=[late])),
        RegisterEventHandler(OnProcessExit(target_action=play, on_exit=after_play)),
        RegisterEventHandler(OnProcessExit(target_action=record, on_exit=after_record)),
    ]


def _image_topic(bag, topic):
    """The image topic to play, and its number of messages; raises InputError where the bag has none or several."""
    command = ExecutableInPackage("vps-ros", "vps_ros").perform(LaunchContext())
    with TemporaryDirectory() as folder:
        found = Path(folder, "bag.json")
        done = subprocess.run([command, "inspect", bag, "--json", found], capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(done.stderr.strip())
        topics = json.loads(found.read_text()).get("topics", [])
    counts = {t["name"]: t["count"] for t in topics if t["type"] in IMAGES}
    listed = ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"
    if topic not in counts and (topic or len(counts) != 1):
        raise InputError(f"{bag}: topic:={topic} is none of its image topics; choose one of: {listed}")
    topic = topic or next(iter(counts))
    return topic, counts[topic]


def _free(output, bag, force):
    """The folder to record to, which must not exist; `force` deletes a recording that is there."""
    if output.suffix == ".mcap":
        raise InputError(f"{output}: with node:=true a folder is recorded; give a name without .mcap")
    if bag.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{output}: is also the input; choose another output")
    if output.exists():
        if not force:
            raise InputError(f"{output}: exists; pass force:=true to replace it, or choose another output")
        shutil.rmtree(refuse_existing(output, force, "metadata.yaml"))
    return output


def _recorded(folder, topic):
    """Number of messages of a topic in a recording; 0 where there is no recording."""
    metadata = folder / "metadata.yaml"
    if not metadata.is_file():
        return 0
    found = yaml.safe_load(metadata.read_text())["rosbag2_bagfile_information"]["topics_with_message_count"]
    return sum(one["message_count"] for one in found if one["topic_metadata"]["name"] == topic)
