"""`ros2 launch vps_ros replay.launch.py bag:=drive.mcap output:=tracked.mcap`: track a recorded drive."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
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
}


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(
            name,
            description=meaning,
            choices=("true", "false") if name == "force" else None,
            **({} if default is None else {"default_value": default}),
        )
        for name, (meaning, default) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_replay)])


def _replay(context):
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    command = [ExecutableInPackage("vps-ros", "vps_ros"), "replay", value["bag"], "-o", value["output"]]
    for name in ("topic", "model", "config", "overlay", "json"):
        if value[name]:
            command += [f"--{name}", value[name]]
    if value["force"] == "true":
        command.append("--force")
    return [ExecuteProcess(cmd=command, output="screen", on_exit=_report)]


def _report(event, context):
    # An exit code alone would be lost: `ros2 launch` fails only when an action does.
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f"vps-ros replay failed with exit code {event.returncode}; the reason is printed above")
