"""`ros2 run vps_ros vps`: the node in a process of its own."""

from __future__ import annotations

import sys

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from vps_ros.errors import InputError
from vps_ros.ros.node import VpsNode


def main(arguments: list[str] | None = None) -> int:
    """Runs until it is shut down; returns 2 when it cannot start."""
    rclpy.init(args=arguments)
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
        finally:
            node.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
    return 0
