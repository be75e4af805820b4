"""`ros2 launch vps_ros vps.launch.py image:=/camera/image_raw`: track what a camera sees."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = {
    "image": ("image topic; one that ends in /compressed is read as CompressedImage", "image"),
    "model": ("name of a shipped model, or path of an ONNX file; empty takes that of config", ""),
    "config": ("YAML file of parameters; empty takes the defaults (share/vps_ros/config/vps.yaml)", ""),
    "namespace": ("namespace of the node and its topics", ""),
    "autostart": ("configure and activate at the start; false leaves that to a lifecycle manager", "true"),
    "use_sim_time": ("take the time of /clock", "false"),
    "overlay": ("also show the overlay in a window; needs image_tools", "false"),
    "rviz": ("also start RViz with the package's view of the outputs; needs rviz2", "false"),
}
SWITCHES = ("autostart", "use_sim_time", "overlay", "rviz")


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(
            name,
            description=meaning,
            default_value=default,
            choices=("true", "false") if name in SWITCHES else None,
        )
        for name, (meaning, default) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes)])


def _nodes(context):
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    on = {name: value[name] == "true" for name in SWITCHES}
    given = {"autostart": on["autostart"], "use_sim_time": on["use_sim_time"]}
    if value["model"]:
        given["model"] = value["model"]
    place = {"namespace": value["namespace"], "output": "screen"}
    nodes = [
        Node(
            package="vps_ros",
            executable="vps",
            name="vps",
            parameters=[*([value["config"]] if value["config"] else []), given],
            remappings=[("image", value["image"])] if value["image"] != "image" else [],
            **place,
        )
    ]
    if on["overlay"]:
        shown = [("image", "vps/overlay")]
        nodes.append(Node(package="image_tools", executable="showimage", name="overlay", remappings=shown, **place))
    if on["rviz"]:
        view = [FindPackageShare("vps_ros"), "/config/vps.rviz"]
        # The view has the topic names of a node without a namespace.
        moved = [(f"/vps/{name}", f"vps/{name}") for name in ("overlay", "panoptic")]
        nodes.append(
            Node(package="rviz2", executable="rviz2", name="rviz", arguments=["-d", view], remappings=moved, **place)
        )
    return nodes
