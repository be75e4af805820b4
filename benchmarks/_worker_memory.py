"""A live worker that is given images one after another: `_worker_memory.py FOLDER DISTINCT CAMERAS FRAMES EVERY`.

The folder has the images 0.npy, 1.npy and so on. Prints its memory as JSON: after the imports, and after every EVERY
frames of each camera.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import numpy as np

from vps_ros.config import Config
from vps_ros.live.pipelines import pipelines
from vps_ros.live.subscriptions import read_image
from vps_ros.live.worker import Camera, Worker
from vps_ros.messages.images import array_to_image
from vps_ros.messages.panoptic import LABEL_INFO, LABEL_INFO_TYPE, LIVE_OUTPUTS, make_header
from vps_ros.messages.typestore import typestore

IMAGE = "sensor_msgs/msg/Image"
KINDS = {**LIVE_OUTPUTS, LABEL_INFO: LABEL_INFO_TYPE}
HZ = 10


class Sink:
    """Serialises every output."""

    def wants(self, output: str) -> bool:
        return output in LIVE_OUTPUTS

    def publish(self, output: str, message: object) -> None:
        bytes(typestore().serialize_cdr(message, KINDS[output]))


def main(folder: str, distinct: int, cameras: int, frames: int, every: int) -> None:
    import cv2
    import onnxruntime
    import scipy.optimize

    assert cv2 and onnxruntime and scipy
    samples = [{"frames": 0, **memory("self")}]
    if cameras:
        path = [*range(distinct), *range(distinct - 2, 0, -1)]
        made = pipelines(Config(), cameras)
        worker = Worker([Camera(f"camera{i}", pipeline, read_image, Sink()) for i, pipeline in enumerate(made)])
        worker.start()
        for count in range(1, frames + 1):
            image = np.load(Path(folder, f"{path[count % len(path)]}.npy"))
            message = array_to_image(image, "rgb8", make_header(count * 10**9 // HZ, "camera"))
            cdr = bytes(typestore().serialize_cdr(message, IMAGE))
            for index in range(cameras):
                worker.offer(index, (IMAGE, cdr))
            while min(stats.figures().frames for stats in worker.stats) < count:
                if any(stats.in_a_row for stats in worker.stats) or not worker.alive:
                    raise RuntimeError("a frame failed")
                time.sleep(0.002)
            if count % every == 0:
                samples.append({"frames": count * cameras, **memory("self")})
        worker.stop(60)
    print(json.dumps(samples))


def memory(pid: int | str) -> dict[str, float]:
    """Resident and proportional size of a process now, MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
    return {f"{name.lower()}_mib": int(sizes[name]) / 1024 for name in ("Rss", "Pss")}


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
