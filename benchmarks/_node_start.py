"""The time from the start of the ROS node's process until it is active, and until its first result.

The Python package cyclonedds must not be imported here: its library is not that of rmw_cyclonedds_cpp.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks._host import missing, private_domain
from benchmarks._processes import cpu_seconds
from benchmarks._worker_memory import memory
from vps_ros.messages.images import array_to_image
from vps_ros.messages.panoptic import make_header
from vps_ros.messages.typestore import typestore

COMMANDS = {
    "ros2 run vps_ros vps": ("run", "vps_ros", "vps", "--ros-args", "-r", "image:=/bench/image"),
    "ros2 launch vps_ros vps.launch.py": ("launch", "vps_ros", "vps.launch.py", "image:=/bench/image"),
}
IMAGE, HZ, PATIENCE = "sensor_msgs/msg/Image", 10.0, 300.0


def lacking() -> str:
    """What this shell lacks to start the node; "" for nothing."""
    return missing() or ("" if shutil.which("ros2") else "there is no command ros2")


def measure(name: str, package: Path, image: np.ndarray) -> dict[str, float]:
    """Starts one of COMMANDS with a package on PYTHONPATH. A camera sends `image`, uint8 [H, W, 3], all the time.

    The node is active when it subscribes to the camera. Seconds of the processor are those of all processes of the
    command until the first result; memory is that of the node then.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from vps_ros.ros.transport import interface_class

    message = array_to_image(image, "rgb8", None)
    with private_domain():
        context = rclpy.Context()
        rclpy.init(context=context)
        peer = rclpy.create_node("bench", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(peer)
        camera = peer.create_publisher(interface_class(IMAGE), "/bench/image", 1)
        results: list[bytes] = []
        kind = "vps_ros/msg/TrackedObjects"
        held = peer.create_subscription(interface_class(kind), "/vps/tracks", results.append, 10, raw=True)
        path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
        began, found, sent = time.perf_counter(), {}, 0.0
        with subprocess.Popen(
            [str(shutil.which("ros2")), *COMMANDS[name]],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # `ros2 run` passes no signals on.
            start_new_session=True,
        ) as process:
            try:
                while not results:
                    now = time.perf_counter() - began
                    if now > PATIENCE or process.poll() is not None:
                        raise RuntimeError(f"{name}: no result within {now:.0f} s")
                    if camera.get_subscription_count() and "active_seconds" not in found:
                        found["active_seconds"] = now
                    if found and now >= sent + 1 / HZ:
                        sent, message.header = now, make_header(time.time_ns(), "camera")
                        camera.publish(bytes(typestore().serialize_cdr(message, IMAGE)))
                    executor.spin_once(0.01)
                found["result_seconds"] = time.perf_counter() - began
                pids = list(_family(process.pid))
                found["cpu_seconds"] = sum(map(cpu_seconds, pids))
                found |= max((memory(pid) for pid in pids), key=lambda one: one["rss_mib"])
            finally:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(PATIENCE)
        peer.destroy_subscription(held)
        peer.destroy_node()
        executor.shutdown()
        rclpy.shutdown(context=context)
    return found


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _family(int(child))
