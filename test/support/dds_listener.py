"""A subscriber in a process of its own: prints the track's messages as lines of JSON.

usage: dds_listener.py
"""

import json
import sys
import time

from vps_ros.live.dds import DdsParticipant
from vps_ros.live.transport import QosProfile
from vps_ros.messages.panoptic import nanoseconds
from vps_ros.messages.typestore import read_message

KINDS = {"tracks": "vps_ros/msg/TrackedObjects", "label_info": "vision_msgs/msg/LabelInfo"}


def show(name: str, data: bytes) -> None:
    message = read_message(data, KINDS[name])
    print(json.dumps({"topic": name, "stamp": nanoseconds(message.header.stamp)}), flush=True)


with DdsParticipant() as participant:
    for name in KINDS:
        profile = QosProfile(depth=100, latched=name == "label_info")
        participant.reader(f"/vps/{name}", KINDS[name], profile, lambda data, name=name: show(name, data))
    print("listening", flush=True)
    while sys.stdout:
        time.sleep(1)
