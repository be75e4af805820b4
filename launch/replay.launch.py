"""`ros2 launch vps_ros replay.launch.py bag:=drive.mcap output:=tracked.mcap`: track a recorded drive.

Every frame is tracked, and nothing is played. With `node:=true` the bag is played to the node in real time instead, and
the node's outputs are recorded: frames may be dropped, as on the vehicle.
"""

import re

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import ExecutableInPackage

ARGUMENTS = {
    "bag": ("a .mcap or .db3 file, or a rosbag2 folder", None),
    "output": ("OUT.mcap for one file, any other name for a rosbag2 folder", None),
    "topic": ("image topic; empty takes the only one", ""),
    "model": ("name of a shipped model, or path of an ONNX file", "streets-s"),
    "config": ("YAML file of parameters; empty takes the defaults", ""),
    "overlay": ("video to draw the result to; empty draws none", ""),
    "json": ("file to write the figures to; empty writes none", ""),
    "force": ("replace outputs that exist", "false"),
    "node": ("play the bag to the node and record its outputs; needs topic, and output is a folder", "false"),
}
SWITCHES = ("force", "node")
NAMES = ("tracks", "segments", "detections", "panoptic", "label_info")
RESULTS = {f"/vps/{name}" for name in NAMES}
_PATIENCE = 30.0
"""Seconds until the bag is played although the recorder has not subscribed to all results."""
_LAST = 2.0
"""Seconds to record the results of the last frames."""


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(
            name,
            description=meaning,
            choices=("true", "false") if name in SWITCHES else None,
            **({} if default is None else {"default_value": default}),
        )
        for name, (meaning, default) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_replay)])


def _replay(context):
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if value["node"] == "true":
        return _through_the_node(value)
    command = [ExecutableInPackage("vps-ros", "vps_ros"), "replay", value["bag"], "-o", value["output"]]
    for name in ("topic", "model", "config", "overlay", "json"):
        if value[name]:
            command += [f"--{name}", value[name]]
    if value["force"] == "true":
        command.append("--force")
    return [ExecuteProcess(cmd=command, output="screen", on_exit=_report)]


def _through_the_node(value):
    if not value["topic"]:
        raise RuntimeError("node:=true needs topic:=, the image topic of the bag")
    parameters = [*([value["config"]] if value["config"] else []), {"model": value["model"], "reliability": "reliable"}]
    node = LifecycleNode(
        package="vps_ros",
        executable="vps",
        name="vps",
        namespace="",
        parameters=parameters,
        remappings=[("image", value["topic"])],
        output="screen",
    )
    bag = ["ros2", "bag"]
    record = ExecuteProcess(
        cmd=[
            *bag,
            "record",
            "-s",
            "mcap",
            "-o",
            value["output"],
            "--regex",
            f"^/vps/({'|'.join(NAMES)}|panoptic_ids)$",
        ],
        output="screen",
    )
    play = ExecuteProcess(
        cmd=[*bag, "play", value["bag"], "--topics", value["topic"], "--delay", "2", "--disable-keyboard-controls"],
        output="screen",
    )
    log, played = [], []

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

    late = TimerAction(period=_PATIENCE, actions=[OpaqueFunction(function=start)])
    end = TimerAction(period=_LAST, actions=[EmitEvent(event=Shutdown(reason="end of the bag"))])
    return [
        node,
        record,
        RegisterEventHandler(OnProcessIO(target_action=record, on_stdout=listen, on_stderr=listen)),
        RegisterEventHandler(OnStateTransition(target_lifecycle_node=node, goal_state="active", entities=[late])),
        RegisterEventHandler(OnProcessExit(target_action=play, on_exit=[end])),
        RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_report)),
    ]


def _report(event, context):
    # `ros2 launch` fails only when an action raises, not when a process fails.
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(
            f"{event.process_name} failed with exit code {event.returncode}; the reason is printed above"
        )
