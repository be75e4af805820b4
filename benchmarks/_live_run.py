"""A camera, a host and a listener, each a process of its own in a private DDS domain, and the result."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._host import Host
from benchmarks._live import PREFIX
from vps_ros.datasets.streets import drive
from vps_ros.live.dds import DdsParticipant
from vps_ros.live.transport import QosProfile
from vps_ros.messages.panoptic import OUTPUTS, nanoseconds
from vps_ros.messages.typestore import read_message

ROOT = Path(__file__).resolve().parent.parent
PATIENCE, DRAIN = 120.0, 3.0
DEFAULT = Host()


@dataclass(frozen=True)
class Run:
    """The result of one run.

    Attributes:
        sent: images published.
        late: stamp of each tracks message -> milliseconds from there until it was here.
        notes, samples, figures: what the host wrote (_live.host).
    """

    sent: int
    late: dict[int, float]
    notes: dict[str, dict[str, float]]
    samples: list[dict]
    figures: dict


def street_images(progress, folder: Path, size: tuple[int, int], count: int) -> Path:
    """A file of `count` frames of a generated street, uint8 [count, H, W, 3]."""
    path = folder / f"{size[0]}x{size[1]}.npy"
    if not path.exists():
        frames = progress(drive("cruise", seed=900_000, frames=count, size=size), f"street {size[0]}x{size[1]}", count)
        np.save(path, np.stack([street.frame.image for street in frames]))
    return path


def measure(folder: Path, frames: Path, hz: float, seconds: float, who: Host = DEFAULT) -> Run:
    """A camera that sends frames to that host for so many seconds."""
    kind, out = OUTPUTS["tracks"], folder / f"host-{secrets.token_hex(4)}.json"
    late: dict[int, float] = {}

    def take(data: bytes) -> None:
        now = time.time_ns()
        stamp = nanoseconds(read_message(data, kind).header.stamp)
        late[stamp] = (now - stamp) / 1e6

    of_dds = ("benchmarks._live", "host", who.waiting, who.model, out)
    of_rclpy = ("benchmarks._live_ros", who.model, out)
    with DdsParticipant() as participant, _process(*(of_rclpy if who.transport == "rclpy" else of_dds)) as host:
        reader = participant.reader(f"{PREFIX}/tracks", kind, QosProfile(depth=100), take)
        end = time.monotonic() + PATIENCE
        while not reader.publishers and time.monotonic() < end and host.poll() is None:
            time.sleep(0.05)
        with _process("benchmarks._live", "camera", frames, hz, seconds) as camera:
            sent = int(camera.communicate()[0] or 0)
        # A long queue would take minutes to process; its frames count as not tracked.
        time.sleep(DRAIN)
        host.send_signal(signal.SIGINT)
        host.wait(PATIENCE)
    written = json.loads(out.read_text())
    return Run(sent, late, written["notes"], written["samples"], written["figures"])


@contextmanager
def _process(module: str, *arguments: object):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()
