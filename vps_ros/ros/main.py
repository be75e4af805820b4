"""`ros2 run vps_ros vps`: the node in a process of its own."""

from __future__ import annotations

import re
import sys

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from vps_ros.errors import InputError
from vps_ros.ros.node import RCLError, VpsNode


def main(arguments: list[str] | None = None) -> int:
    """Runs until it is shut down; returns 2 when it cannot start."""
    try:
        rclpy.init(args=arguments)
    # Wrong ROS arguments: a parameter file that is missing or not one, a wrong remapping.
    except RCLError as error:
        print(f"vps: {_described(error)}", file=sys.stderr)
        return 2
    try:
        try:
            node = VpsNode()
        except (InputError, ParameterException) as error:
            print(f"vps: {error}", file=sys.stderr)
            return 2
        try:
            if not node.autostart:
                node.get_logger().info("waiting to be configured; autostart is false")
            elif not node.start():
                return 2
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            executor.spin()
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        # A signal may end rclpy's context in the middle of a step of the executor.
        except RCLError:
            if rclpy.ok():
                raise
        finally:
            node.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
    return 0


def _described(error: RCLError) -> str:
    """The message without the lines of rcl's sources, and what a parameter file must look like."""
    text = re.sub(r", at \S+:\d+", "", str(error))
    if "params file" in text and "opening" not in text:
        text += "; above the parameters, a ROS parameter file has `/**:` and, indented, `ros__parameters:`"
    return text
