"""`ros2 launch vps_ros replay.launch.py bag:=drive.mcap output:=tracked.mcap`: track a recorded drive."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration

ARGUMENTS = {
    "bag": ("a .mcap or .db3 file, or a rosbag2 folder", None),
    "output": ("OUT.mcap for one file, any other name for a rosbag2 folder", None),
    "topic": ("image topic; empty takes the only one", ""),
    "model": ("name of a shipped model, or path of an ONNX file", "streets-s"),
    "config": ("YAML file of parameters; empty takes the defaults", ""),
    "overlay": ("video to draw the result to; empty draws none", ""),
    "force": ("replace outputs that exist", "false"),
}


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, description=meaning, **({} if default is None else {"default_value": default}))
        for name, (meaning, default) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_replay)])


def _replay(context):
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    command = ["ros2", "run", "vps_ros", "vps-ros", "replay", value["bag"], "-o", value["output"]]
    for name in ("topic", "model", "config", "overlay"):
        if value[name]:
            command += [f"--{name}", value[name]]
    if value["force"].lower() == "true":
        command.append("--force")
    return [ExecuteProcess(cmd=command, output="screen")]
