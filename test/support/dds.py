"""A private DDS domain on the loopback interface for one test: processes in it, and their output."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

PATIENCE = 120
"""Timeout in seconds; a busy machine is slow."""

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')

from support import ROOT  # noqa: E402
from vps_ros.live.dds import DdsParticipant  # noqa: E402
from vps_ros.live.transport import QosProfile  # noqa: E402
from vps_ros.messages.panoptic import CAMERA_INFO, CAMERA_INFO_TYPE, LABEL_INFO, LABEL_INFO_TYPE, LIVE_OUTPUTS  # noqa: E402
from vps_ros.messages.typestore import read_message, typestore  # noqa: E402

TYPES = {**LIVE_OUTPUTS, LABEL_INFO: LABEL_INFO_TYPE, CAMERA_INFO: CAMERA_INFO_TYPE}


def environment(tagged: bool = True) -> dict[str, str]:
    """Variables that separate a test's processes from others: a random domain, and a random tag.

    Args:
        tagged: whether with the tag, which only Cyclone DDS knows.
    """
    inner = '<General><Interfaces><NetworkInterface name="lo"/></Interfaces></General>'
    inner += f"<Discovery><Tag>{secrets.token_hex(8)}</Tag></Discovery>"
    return {
        "CYCLONEDDS_URI": f"<CycloneDDS><Domain>{inner}</Domain></CycloneDDS>" if tagged else "",
        "ROS_DOMAIN_ID": str(1 + secrets.randbelow(100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_STATIC_PEERS": "",
    }


def until(condition, what="it"):
    """Waits until `condition` is true; its value."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what() if callable(what) else what} did not happen within {PATIENCE} s"
        time.sleep(0.01)
    return found


class Process:
    """A running command; `shown` is its output on stderr and stdout so far."""

    def __init__(self, *command: object) -> None:
        self.lines: list[str] = []
        path = [str(ROOT), str(ROOT / "test"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.running = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"},
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def shown(self) -> str:
        return "".join(self.lines)

    def says(self, *words: str) -> str:
        """Waits for a line with all of the words; the first one."""

        def found() -> str:
            ended = not self._thread.is_alive()
            line = next((line for line in self.lines if all(word in line for word in words)), "")
            assert line or not ended, f"it ended without saying {words}: {self.shown}"
            return line

        return until(found, lambda: f"{words} in {self.shown!r}")

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Its exit code, after this signal."""
        self.running.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        code = self.running.wait(PATIENCE)
        self._thread.join(PATIENCE)
        return code

    def _listen(self) -> None:
        for line in self.running.stdout:
            self.lines.append(line)


class DdsSession:
    """This process and others in a private domain."""

    def __init__(self) -> None:
        self.participant = DdsParticipant()
        self.received: dict[str, list] = defaultdict(list)
        self.times: dict[str, list[int]] = defaultdict(list)
        self.readers: dict[str, str] = {}
        self._processes: list[Process] = []

    def close(self) -> None:
        for process in self._processes:
            if process.running.poll() is None:
                process.running.kill()
                process.wait()
        self.participant.close()

    def run(self, *command: object) -> Process:
        process = Process(*command)
        self._processes.append(process)
        return process

    def vps(self, *arguments: object) -> Process:
        """`vps-ros ...` in a process of its own."""
        return self.run("-m", "vps_ros.commands.main", *arguments)

    def live(self, model: object, *arguments: object, image: str = "/camera/image_raw") -> Process:
        """`vps-ros live`, after it has started."""
        process = self.vps("live", "--image", image, "--model", model, "--threads", 1, *arguments)
        process.says("domain", "Ctrl-C ends")
        return process

    def offer(self, topic="/camera/image_raw", kind="sensor_msgs/msg/Image", reliability="reliable", depth=10):
        """A writer of images; waits for nobody."""
        return self.participant.writer(topic, kind, QosProfile(reliability, depth))

    def publish(self, topic="/camera/image_raw", kind="sensor_msgs/msg/Image", reliability="reliable", camera=0):
        """A writer that is connected to `vps-ros live`, after its outputs are connected too (`listen` first).

        Messages sent before are lost.
        """
        if "diagnostics" not in self.readers:
            self.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        writer = self.offer(topic, kind, reliability)
        until(lambda: writer.subscribers, f"a subscriber of {topic}")

        def met() -> bool:
            values = self.values(camera)
            if not values:
                return False
            listened = values.get("listeners", "")
            mine = [name for name, where in self.readers.items() if where.rpartition("/")[0] == self.prefix(camera)]
            return values.get("publishers", "0") != "0" and all(f"{name} (" in listened for name in mine)

        until(met, lambda: f"meeting (now {self.values(camera)})")
        return writer

    def values(self, camera: int = 0) -> dict[str, str]:
        """The values of a camera in the latest diagnostics."""
        messages = self.received["diagnostics"]
        return {v.key: v.value for v in messages[-1].status[camera].values} if messages else {}

    def prefix(self, camera: int) -> str:
        """The prefix of a camera's output topics."""
        node, _, name = self.received["diagnostics"][-1].status[camera].name.partition(": ")
        return f"/{node}" if name == "pipeline" else f"/{node}/{name}"

    def listen(self, *names: str, prefix: str = "/vps", wait: bool = True, latched: bool = False) -> None:
        """Fills `received[name]` with the messages of these outputs from now on."""
        for name in names:
            self.subscribe(f"{prefix}/{name}", TYPES[name], wait, latched or name == LABEL_INFO)

    def subscribe(self, topic: str, kind: str, wait: bool = True, latched: bool = False, depth: int = 1000):
        """Fills `received` under the last part of the topic's name, and `times` with the time of arrival (ns)."""
        name = topic.rpartition("/")[2]

        def take(data: bytes) -> None:
            self.times[name].append(time.time_ns())
            self.received[name].append(read_message(bytes(data), kind))

        reader = self.participant.reader(topic, kind, QosProfile("reliable", depth, latched), take)
        self.readers[name] = topic
        if wait:
            until(lambda: reader.publishers, f"a publisher of {topic}")
        return reader


def cdr(message) -> bytes:
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def figures(path: Path) -> dict:
    return json.loads(path.read_text())
