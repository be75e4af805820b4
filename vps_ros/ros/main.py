"""`ros2 run vps_ros vps`: the node in a process of its own."""

from __future__ import annotations

import re
import sys

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from vps_ros.errors import InputError
from vps_ros.live.process import Signals, leave
from vps_ros.ros.node import RCLError, VpsNode

_POLL = 0.2
"""Seconds after which a signal is noticed at the latest."""


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGINT or SIGTERM; returns 2 when it cannot start."""
    # The handlers of rclpy would close the publishers before the results of the last frames are sent.
    with Signals() as signals:
        try:
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        # Wrong ROS arguments: a parameter file that is missing or not one, a wrong remapping.
        except RCLError as error:
            print(f"vps: {_described(error)}", file=sys.stderr)
            return 2
        try:
            return _run(signals)
        finally:
            rclpy.try_shutdown()


def _run(signals: Signals) -> int:
    try:
        node = VpsNode()
    except (InputError, ParameterException) as error:
        print(f"vps: {error}", file=sys.stderr)
        return 2
    try:
        if not node.autostart:
            node.get_logger().info("waiting to be configured; autostart is false")
        else:
            started = signals.during(node.start)
            if started is None:
                leave(0)
            if not started:
                return 2
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not signals.wait(0):
            executor.spin_once(_POLL)
    finally:
        node.close()
        node.destroy_node()
    return 0


def _described(error: RCLError) -> str:
    """The message without the lines of rcl's sources, and what a parameter file must look like."""
    text = re.sub(r", at \S+:\d+", "", str(error))
    if "params file" in text and "opening" not in text:
        text += "; above the parameters, a ROS parameter file has `/**:` and, indented, `ros__parameters:`"
    return text
