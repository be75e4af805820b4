"""Workers with a sink that keeps what they publish."""

import time
from collections import defaultdict

from vps_ros.config import Config
from vps_ros.live.worker import Camera
from vps_ros.messages.images import frame_of
from vps_ros.messages.panoptic import CAMERA_INFO, LIVE_OUTPUTS, nanoseconds
from vps_ros.messages.typestore import typestore
from vps_ros.online import OnlinePanoptic

PATIENCE = 60
"""Timeout in seconds; a busy machine is slow."""


class CollectingSink:
    """A sink that keeps what is published, by output."""

    def __init__(self, wanted=frozenset((*LIVE_OUTPUTS, CAMERA_INFO))):
        self.wanted = wanted
        self.kept = defaultdict(list)

    def wants(self, output):
        return output in self.wanted

    def publish(self, output, message):
        self.kept[output].append(message)


def read(message, received):
    return frame_of(message, message.__msgtype__, received)


def camera(model, sink=None, name="", read=read, **config):
    return Camera(name, OnlinePanoptic(Config(model=model, **config)), read, sink or CollectingSink())


def until(condition, what="it"):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {PATIENCE} s"
        time.sleep(0.005)


def give(worker, message, index=0):
    """Offers a message and waits until the worker has processed it."""
    stats = worker.stats[index]
    handled = stats.figures().frames + stats.figures().failed
    worker.offer(index, message)
    until(lambda: stats.figures().frames + stats.figures().failed > handled)


def cdr(message):
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def stamps(messages):
    return [nanoseconds(m.header.stamp) for m in messages]
