"""The processes of the live benchmarks: `python -m benchmarks._live camera|host ...` in the domain of ROS_DOMAIN_ID."""

from __future__ import annotations

import argparse
import json
import os
import queue
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks._processes import memory_mib, process_status
from vps_ros.config import Config
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.live.dds import DdsParticipant
from vps_ros.live.dds_transport import DdsTransport
from vps_ros.live.node import CameraOutputs
from vps_ros.live.pipelines import pipelines
from vps_ros.live.process import Signals
from vps_ros.live.subscriptions import CameraSubscription, read_image
from vps_ros.live.transport import QosProfile
from vps_ros.live.worker import Camera, LatestFrames, Worker
from vps_ros.messages.images import array_to_image
from vps_ros.messages.panoptic import make_header
from vps_ros.online import OnlinePanoptic, SegmentedFrame

TOPIC, PREFIX = "/bench/image", "/bench"
KEPT = 1_000
SAMPLE = 5.0


class Fifo(LatestFrames):
    """A queue of frames, first in, first out, as a subscription with a depth has."""

    def __init__(self, depth: int = 0) -> None:
        super().__init__(1)
        self._queue: queue.Queue = queue.Queue(depth)

    def put(self, camera: int, item: object) -> bool:
        self._queue.put((camera, item))
        return False

    def take(self, timeout: float):
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def wake(self) -> None:
        pass


class Noted:
    """A pipeline that records, by the stamp of the frame, the milliseconds in segmenter and tracker."""

    def __init__(self, pipeline: OnlinePanoptic, notes: dict[int, dict[str, float]]) -> None:
        self._pipeline, self._notes = pipeline, notes

    def __getattr__(self, name: str):
        return getattr(self._pipeline, name)

    def track(self, segmented: SegmentedFrame) -> PanopticFrame:
        result = self._pipeline.track(segmented)
        spent = result.milliseconds
        self._notes[result.stamp]["step"] = spent["segment"] + spent["flow"] + spent["track"]
        return result


def noted(camera: Camera, notes: dict[int, dict[str, float]]) -> Camera:
    """The camera, with a record of how long each frame waited and was processed."""

    def read(message: tuple[str, bytes], received: int) -> Frame:
        waited = (time.time_ns() - received) / 1e6
        frame = camera.read(message, received)
        if len(notes) >= KEPT:
            notes.clear()
        notes[frame.stamp] = {"waited": waited}
        return frame

    return replace(camera, pipeline=Noted(camera.pipeline, notes), read=read)  # type: ignore[arg-type]


def host(waiting: str, model: str, out: Path) -> None:
    """Processes frames until a signal; then writes the record of each frame, and samples of memory and latency."""
    notes: dict[int, dict[str, float]] = {}
    samples = []
    (pipeline,) = pipelines(Config(model=model), 1)
    with Signals() as signals, DdsParticipant() as participant:
        transport = DdsTransport(participant, PREFIX)
        camera = noted(Camera("", pipeline, read_image, CameraOutputs(transport)), notes)
        worker = Worker([camera], {"slot": lambda: LatestFrames(1), "fifo": Fifo}[waiting]())
        worker.start()
        subscription = CameraSubscription(transport, TOPIC, QosProfile("best_effort", 1), lambda m: worker.offer(0, m))
        while not signals.wait(SAMPLE):
            subscription.check(60)
            figures = worker.stats[0].figures()
            about = {"at": time.time(), "load": os.getloadavg()[0], "rss_mib": memory_mib()}
            about["threads"] = int(process_status()["Threads"])
            samples.append({**about, "p50": figures.p50, "p99": figures.p99, "rate": figures.rate})
        subscription.close()
        worker.stop()
        total = worker.stats[0].to_json()
    out.write_text(json.dumps({"notes": notes, "samples": samples, "figures": total}))


def camera(frames: Path, hz: float, seconds: float) -> None:
    """Publishes the frames there and back, each with the stamp of its sending."""
    images = np.load(frames, mmap_mode="r")
    path = [*range(len(images)), *range(len(images) - 2, 0, -1)]
    made = [array_to_image(np.ascontiguousarray(image), "rgb8", None) for image in images]
    with Signals() as signals, DdsParticipant() as participant:
        writer = participant.writer(TOPIC, "sensor_msgs/msg/Image", QosProfile("reliable", 10))
        while not writer.subscribers:
            if signals.wait(0.05):
                return
        signals.wait(1.0)
        began = time.monotonic()
        sent = 0
        while sent < hz * seconds and not signals.wait(began + sent / hz - time.monotonic()):
            message = made[path[sent % len(path)]]
            message.header = make_header(time.time_ns(), "camera")
            writer.send(message)
            sent += 1
        writer.flush(1.0)
    print(sent)


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    one = roles.add_parser("host")
    one.add_argument("waiting", choices=("slot", "fifo"))
    one.add_argument("model")
    one.add_argument("out", type=Path)
    other = roles.add_parser("camera")
    other.add_argument("frames", type=Path)
    other.add_argument("hz", type=float)
    other.add_argument("seconds", type=float)
    one.set_defaults(run=host)
    other.set_defaults(run=camera)
    args = vars(parser.parse_args())
    args.pop("role")
    args.pop("run")(**args)


if __name__ == "__main__":
    main()
