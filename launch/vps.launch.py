"""`ros2 launch vps_ros vps.launch.py image:=/camera/image_raw`: track what a camera sees."""

from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vps_ros.errors import InputError
from vps_ros.ros.launching import SWITCH, Argument, describe, fail_with_process, fail_with_start, require
from vps_ros.ros.parameter_file import ros_parameter_files

ARGUMENTS = {
    "image": Argument("image topic; one that ends in /compressed is read as CompressedImage", "image"),
    "cameras": Argument("several cameras instead of image: NAME=TOPIC,NAME=TOPIC; NAME alone has the topic NAME/image"),
    "depth": Argument("depth topic, registered to the image; with several cameras a name below each camera's; adds 3D"),
    "objects_frame": Argument("coordinate frame of objects in 3D, by TF; empty is that of the camera"),
    "model": Argument("name of a shipped model, or path of an ONNX file; empty takes that of config"),
    "clip_length": Argument("frames that the network segments together, near-online; empty takes that of config"),
    "clip_overlap": Argument("frames that consecutive clips share; empty takes that of config"),
    "config": Argument("YAML file of parameters, flat or of ROS; empty takes the defaults (config/vps.yaml)"),
    "reliability": Argument(
        "of the image subscription; empty takes that of config", choices=("", "best_effort", "reliable")
    ),
    "name": Argument("name of the node; its topics begin with it", "vps"),
    "namespace": Argument("namespace of the node and its topics"),
    "autostart": Argument("configure and activate at the start; false: a lifecycle manager does this", "true", SWITCH),
    "use_sim_time": Argument("take the time of /clock", "false", SWITCH),
    "log_level": Argument("least severity that the node logs", "info", ("debug", "info", "warn", "error", "fatal")),
    "respawn": Argument("start the node again, after 2 s, when it dies", "false", SWITCH),
    "overlay": Argument("also show the overlay in a window; needs image_tools", "false", SWITCH),
    "rviz": Argument("also start RViz with the package's view of the outputs; needs rviz2", "false", SWITCH),
}


def generate_launch_description():
    return describe(ARGUMENTS, _start)


def _start(value):
    on = {name: value[name] == "true" for name, argument in ARGUMENTS.items() if argument.choices is SWITCH}
    for argument, package, executable in (("overlay", "image_tools", "showimage"), ("rviz", "rviz2", "rviz2")):
        if on[argument]:
            require(package, executable, f"{argument}:=true")
    cameras = _cameras(value["cameras"])
    given = {"autostart": on["autostart"], "use_sim_time": on["use_sim_time"]}
    given |= {name: ParameterValue(value[name], value_type=str) for name in ("model", "reliability") if value[name]}
    given |= {
        parameter: ParameterValue(value[name], value_type=str)
        for parameter, name in (("depth_topic", "depth"), ("objects_frame", "objects_frame"))
        if value[name]
    }
    given |= {name: _number(name, value[name]) for name in ("clip_length", "clip_overlap") if value[name]}
    if cameras:
        given["cameras"] = ParameterValue(list(cameras), value_type=list[str])
        if value["image"] != "image":
            raise InputError("image:= and cameras:= are both given; give the topics of several cameras in cameras:=")
    remappings = {"image": value["image"], **{f"{name}/image": topic for name, topic in cameras.items()}}
    place = {"namespace": value["namespace"], "output": "screen"}
    # "/front/vps" logs as front.vps.
    logger = ".".join([*filter(None, value["namespace"].split("/")), value["name"]])
    node = Node(
        package="vps_ros",
        executable="vps",
        name=value["name"],
        parameters=[*ros_parameter_files(value["config"]), given],
        remappings=[(name, topic) for name, topic in remappings.items() if topic != name],
        ros_arguments=["--log-level", f"{logger}:={value['log_level']}"],
        respawn=on["respawn"],
        respawn_delay=2.0,
        on_exit=fail_with_start if on["respawn"] else fail_with_process,
        **place,
    )
    outputs = [f"{value['name']}/{camera}" for camera in cameras] or [value["name"]]
    windows = [_window(output, place) for output in outputs] if on["overlay"] else []
    return [node, *windows, *([_rviz(outputs[0], place)] if on["rviz"] else [])]


def _number(name, text):
    if not text.isdecimal():
        raise InputError(f"{name}:={text}: give a number of frames")
    return int(text)


def _cameras(text):
    """{name: image topic} of "front=/front/image_raw,left"."""
    cameras = {}
    for word in filter(None, text.split(",")):
        name, _, topic = word.strip().partition("=")
        if not name or name in cameras:
            raise InputError(
                f"cameras:={text}: give each camera a name of its own, as in front=/rig/front/image_raw,left"
            )
        cameras[name] = topic or f"{name}/image"
    return cameras


def _window(output, place):
    return Node(
        package="image_tools",
        executable="showimage",
        name=f"{output.replace('/', '_')}_overlay",
        remappings=[("image", f"{output}/overlay")],
        on_exit=fail_with_process,
        **place,
    )


def _rviz(output, place):
    """The view has the topic names of a node without a namespace."""
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=["-d", [FindPackageShare("vps_ros"), "/config/vps.rviz"]],
        remappings=[(f"/vps/{name}", f"{output}/{name}") for name in ("overlay", "panoptic")],
        on_exit=fail_with_process,
        **place,
    )
