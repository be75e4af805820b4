"""Time from the stamp of a camera image to the message of its tracks, over DDS, with three processes on one machine.

A camera process publishes frames of a generated street (raw, rgb8), stamped when they are sent. A host process works
like `vps-ros live` with the shipped model. A third process subscribes. Frames wait in the buffer of the latest frame
or, for comparison, in a queue. "Waiting" is the time in there; "outside" is everything but waiting, segmenter and
tracker: serialisation, two transfers over DDS, decoding, making messages. If a workspace with the node is sourced, on
rmw_cyclonedds_cpp, the node is the host in further runs. The serialisation of an image is also compared with Cyclone's
own Python and with rclpy's classes.
"""

from __future__ import annotations

import importlib.util
import tempfile
from array import array
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks._host import Host, missing, private_domain

DESCRIPTION = (
    "from a camera's stamp to its tracks over DDS at 10 and 30 Hz, compared with a queue; serialisation of an image"
)
SIZES = ((1242, 375), (1920, 1080))
RUNS = ((10, Host()), (30, Host()), (30, Host(waiting="fifo")), (30, Host(model="streets-s-float")))
RUNS_OF_ROS = ((10, Host("rclpy")), (30, Host("rclpy")))
"""Frames per second, and the program that tracks them."""
DISTINCT, SECONDS = 30, 15
GOAL_MS = {"1242x375": 6.0, "1920x1080": 15.0}
REPEATS, REPEATS_THEIRS = 20, 2


def run(progress) -> dict:
    """Figures in milliseconds, of rclpy only where it is; {"skipped": why} where cyclonedds is missing."""
    if importlib.util.find_spec("cyclonedds") is None:
        return {"skipped": 'cyclonedds is not installed; pip install "vps_ros[live]"'}
    from benchmarks._live_run import measure, street_images

    runs, lacking = [], missing()
    with tempfile.TemporaryDirectory() as temporary, private_domain():
        folder = Path(temporary)
        plan = [(size, *one) for size in SIZES for one in RUNS + (() if lacking else RUNS_OF_ROS)]
        images = {size: street_images(progress, folder, size, DISTINCT) for size in SIZES}
        for size, hz, host in progress(plan, "runs", len(plan)):
            one = measure(folder, images[size], hz, SECONDS, host)
            runs.append({"camera": f"{size[0]}x{size[1]}", "hz": hz, **asdict(host), **_summary(one)})
    serialised = {f"{w}x{h}": _serialise(w, h, not lacking) for w, h in SIZES}
    return {"seconds": SECONDS, "rclpy": lacking or "measured", "runs": runs, "serialise_ms": serialised}


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people."""
    columns = ["camera", "Hz", "host", "model", "frames wait in a", "sent", "tracked", "p50", "p99"]
    columns += ["segmenter, tracker", "waiting", "outside", "goal"]
    rows = [
        [r["camera"], r["hz"], r["transport"], r["model"], r["waiting"], r["sent"], r["tracked"], r["p50"], r["p99"]]
        + [r["step"], r["waited"], r["outside"], GOAL_MS[r["camera"]]]
        for r in figures["runs"]
    ]
    names = {"here": "here", "cyclonedds": "cyclonedds in Python", "rclpy": "rclpy's classes"}
    serialised = figures["serialise_ms"]
    shown = [name for name in names if all(name in one for one in serialised.values())]
    both = [[size, *(one[name] for name in shown)] for size, one in serialised.items()]
    return [
        ("milliseconds from stamp to tracks (p50, p99), and medians of its parts", columns, rows),
        ("milliseconds to serialise and read an image", ["camera", *(names[name] for name in shown)], both),
    ]


def _summary(one) -> dict:
    """Of the frames after the first tenth."""
    stamps = sorted(one.late)
    if not stamps:
        empty = dict.fromkeys(("p50", "p99", "step", "waited", "outside"))
        return {"sent": one.sent, "tracked": 0, **empty}
    after = stamps[len(stamps) // 10 :]
    late = np.array([one.late[stamp] for stamp in after])
    noted = [one.notes[str(stamp)] for stamp in after]
    step, waited = (np.array([note[name] for note in noted]) for name in ("step", "waited"))
    return {
        "sent": one.sent,
        "tracked": len(one.late),
        "p50": float(np.percentile(late, 50)),
        "p99": float(np.percentile(late, 99)),
        "step": float(np.median(step)),
        "waited": float(np.median(waited)),
        "outside": float(np.median(late - step - waited)),
    }


def _serialise(width: int, height: int, ros: bool) -> dict[str, float]:
    """Median milliseconds of writing and reading an image of this size, by rosbags and by the others."""
    from vps_ros.live.dds_serialisation import SerialisationBuffer
    from vps_ros.messages.images import array_to_image
    from vps_ros.messages.panoptic import make_header
    from vps_ros.messages.typestore import read_message

    kind = "sensor_msgs/msg/Image"
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    message = array_to_image(picture, "rgb8", make_header(1, "camera"))
    buffer = SerialisationBuffer()

    def here() -> None:
        read_message(bytes(buffer.serialise(message, kind)), kind)

    image = _image_type()
    header = image.__annotations__["header_"]
    stamp = header.__annotations__["stamp_"]
    theirs = image(header(stamp(0, 1), "camera"), height, width, "rgb8", 0, width * 3, picture.reshape(-1).tolist())

    def cyclone() -> None:
        image.deserialize(theirs.serialize())

    found = {"here": _median(here, REPEATS), "cyclonedds": _median(cyclone, REPEATS_THEIRS)}
    return {**found, "rclpy": _median(_by_rclpy(picture), REPEATS)} if ros else found


def _by_rclpy(picture: np.ndarray) -> Callable[[], object]:
    """Writes and reads an Image of rclpy."""
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import Image

    message = Image(height=picture.shape[0], width=picture.shape[1], encoding="rgb8", step=picture.shape[1] * 3)
    message.data = array("B", picture.tobytes())
    return lambda: np.frombuffer(deserialize_message(serialize_message(message), Image).data, np.uint8)


def _image_type():
    from cyclonedds.idl import make_idl_struct, types

    name = "{}.msg.dds_.{}_".format
    stamp = make_idl_struct(
        "Time_", name("builtin_interfaces", "Time"), {"sec_": types.int32, "nanosec_": types.uint32}
    )
    header = make_idl_struct("Header_", name("std_msgs", "Header"), {"stamp_": stamp, "frame_id_": str})
    fields = {"header_": header, "height_": types.uint32, "width_": types.uint32, "encoding_": str}
    fields |= {"is_bigendian_": types.uint8, "step_": types.uint32, "data_": types.sequence[types.uint8]}
    return make_idl_struct("Image_", name("sensor_msgs", "Image"), fields)


def _median(work, repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        began = perf_counter()
        work()
        times.append((perf_counter() - began) * 1e3)
    return float(np.median(times))
