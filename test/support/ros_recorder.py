"""Publishes messages with rclpy while `ros2 bag record` writes them to bags. Runs inside a ROS workspace.

usage: ros_recorder.py MESSAGES.npz FOLDER '{"name": ["--storage", "mcap", ...], ...}'

MESSAGES.npz holds the lists `topics`, `types` and, one after the other, the serialised messages `m0`, `m1`, ...
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.serialization import deserialize_message
from rosidl_runtime_py.utilities import get_message

PATIENCE = 120


def main(messages: str, folder: str, recordings: dict) -> None:
    given = np.load(messages)
    kinds = dict(zip(given["topics"].tolist(), given["types"].tolist(), strict=True))
    rclpy.init()
    node = rclpy.create_node("camera")
    publishers = {topic: node.create_publisher(get_message(kind), topic, 100) for topic, kind in kinds.items()}
    recorders = [
        subprocess.Popen(["ros2", "bag", "record", "-o", str(Path(folder, name)), *flags, *publishers])
        for name, flags in recordings.items()
    ]
    try:
        end = time.monotonic() + PATIENCE
        while any(p.get_subscription_count() < len(recorders) for p in publishers.values()):
            if time.monotonic() > end:
                raise SystemExit(f"the recorders did not subscribe within {PATIENCE} s")
            time.sleep(0.05)
        time.sleep(1)
        for i, topic in enumerate(given["topics"].tolist()):
            publishers[topic].publish(deserialize_message(given[f"m{i}"].tobytes(), get_message(kinds[topic])))
            time.sleep(0.02)
        for publisher in publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=PATIENCE))
        time.sleep(1)
    finally:
        for recorder in recorders:
            recorder.send_signal(signal.SIGINT)
        for recorder in recorders:
            recorder.wait(PATIENCE)
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
