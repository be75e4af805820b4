"""Publishes a small picture with rclpy at 10 Hz until it is interrupted, as the node that the topic begins with.

SCALE times as large, if that is given. Runs inside a ROS workspace.

usage: ros_camera.py TOPIC best_effort|reliable [SCALE]
"""

import array
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from support.worlds import picture


def main(topic: str, reliability: str, scale: str = "1") -> None:
    rclpy.init()
    node = rclpy.create_node(topic.split("/")[1])
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, topic, qos)
    image = picture({0: (8, 40), 1: (76, 36)}).repeat(int(scale), 0).repeat(int(scale), 1)
    message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8", step=3 * image.shape[1])
    message.data = array.array("B", image.tobytes())
    message.header.frame_id = "rclpy_camera"

    def publish() -> None:
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)

    node.create_timer(0.1, publish)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
