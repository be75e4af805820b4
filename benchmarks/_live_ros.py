"""The rclpy node as host: `python -m benchmarks._live_ros MODEL OUT` in the domain of ROS_DOMAIN_ID."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks._live import PREFIX, TOPIC, noted
from vps_ros.live.process import Signals


def main(model: str, out: Path) -> None:
    """Processes frames until a signal; then writes the record of each frame."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from vps_ros.ros.node import VpsNode

    notes: dict[int, dict[str, float]] = {}
    remaps = ["-r", f"__node:={PREFIX.strip('/')}", "-r", f"image:={TOPIC}", "-p", f"model:={model}"]
    rclpy.init(args=["--ros-args", *remaps], signal_handler_options=SignalHandlerOptions.NO)
    with Signals() as signals:
        node = VpsNode()
        node.trigger_configure()
        node.live.cameras = tuple(noted(camera, notes) for camera in node.live.cameras)
        node.trigger_activate()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not signals.wait(0):
            executor.spin_once(0.1)
        assert node.live.worker is not None
        figures = node.live.worker.stats[0].to_json()
        node.close()
        node.destroy_node()
    rclpy.try_shutdown()
    out.write_text(json.dumps({"notes": notes, "samples": [], "figures": figures}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
