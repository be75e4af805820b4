"""The programs of docs/ros_nodes.md, run beside the node."""

import importlib.util
import re
import sys
import time

import pytest

from support import ROOT
from support.bags import START, TENTH, TOPIC, raw
from support.worlds import colour_model, picture

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")
if importlib.util.find_spec("message_filters") is None:
    pytest.skip("install ROS's package message_filters", allow_module_level=True)

from support.ros_session import PATIENCE, RosSession  # noqa: E402

PAGE = (ROOT / "docs" / "ros_nodes.md").read_text()
PROGRAMS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.slow
@pytest.mark.parametrize("program", ["together.py", "composed.py"])
def test_an_image_comes_with_its_results(program, process, tmp_path):
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
    model = str(colour_model(tmp_path / "colours.onnx"))
    ros = RosSession()
    try:
        options = []
        if program == "together.py":
            ros.node(f"image:={TOPIC}", model=model)
            ros.run()
        else:
            options = ["--ros-args", "-r", f"image:={TOPIC}", "-p", f"model:={model}"]
        running = process(sys.executable, tmp_path / program, *options)
        camera = ros.camera(TOPIC)
        count, end = 0, time.monotonic() + PATIENCE
        while not (found := re.findall(r"(\d+)\.(\d{9}): (\w+) (\d+), (\d+) pixels", running.log.read_text())):
            assert running.poll() is None and time.monotonic() < end, running.log.read_text()
            # Discovery takes time: the first frames may be lost. The square is larger in odd frames.
            count += 1
            camera.send(raw(picture({0: (8, 32)}, side=16 + 8 * (count % 2)), START + count * TENTH))
            time.sleep(0.1)
        for seconds, nanoseconds, _, track, pixels in found:
            number, rest = divmod(int(seconds) * 10**9 + int(nanoseconds) - START, TENTH)
            assert rest == 0 and 1 <= number <= count
            assert track == "1"
            assert (int(pixels) > (16 * 16 + 24 * 24) / 2) == (number % 2 == 1)
    finally:
        ros.close()
