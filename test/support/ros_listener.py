"""Plays a bag with `ros2 bag play` and tells what rclpy subscribers received. Runs inside a ROS workspace.

usage: ros_listener.py BAG OUT.json '{"/topic": ["package/msg/Type", count], ...}' [LATE_TOPIC]

The subscriber of LATE_TOPIC asks for what was sent before it joined, and joins once other messages have come.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbag2_interfaces.srv import Resume
from rosidl_runtime_py import message_to_ordereddict
from rosidl_runtime_py.utilities import get_message

PATIENCE = 120


def main(bag: str, out: str, topics: dict, late: str | None) -> None:
    rclpy.init()
    node = rclpy.create_node("listener")
    received: dict[str, list] = {topic: [] for topic in topics}
    # Held here: rclpy forgets subscriptions that nobody keeps.
    held = []

    def listen(topic: str, durability: DurabilityPolicy) -> None:
        def keep(message):
            received[topic].append(message_to_ordereddict(message))

        qos = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        held.append(node.create_subscription(get_message(topics[topic][0]), topic, keep, qos))

    for topic in topics:
        if topic != late:
            listen(topic, DurabilityPolicy.VOLATILE)
    command = ["ros2", "bag", "play", bag, "--start-paused", "--disable-keyboard-controls", "--rate", "0.25"]
    player = subprocess.Popen(command)
    try:
        spin(node, lambda: all(node.count_publishers(topic) for topic in topics), "publishers")
        resume = node.create_client(Resume, "/rosbag2_player/resume")
        spin(node, resume.service_is_ready, "the player's service")
        # Nothing tells a subscriber that the other side has found it too.
        linger(node, 1)
        resume.call_async(Resume.Request())
        if late is not None:
            spin(node, lambda: any(received.values()), "a first message")
            listen(late, DurabilityPolicy.TRANSIENT_LOCAL)
        spin(node, lambda: all(len(received[t]) >= count for t, (_, count) in topics.items()), "all messages")
        # More than expected would be wrong too.
        linger(node, 0.5)
    finally:
        if player.poll() is None:
            player.send_signal(signal.SIGINT)
        player.wait(PATIENCE)
        Path(out).write_text(json.dumps(received))
        node.destroy_node()
        rclpy.try_shutdown()


def spin(node, until, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        if time.monotonic() > end:
            raise SystemExit(f"no sign of {what} within {PATIENCE} s")
        rclpy.spin_once(node, timeout_sec=0.05)


def linger(node, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
