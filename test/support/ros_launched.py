"""launch/vps.launch.py under launch_testing: test_ros_launch.py, or `launch_test test/support/ros_launched.py`."""

import shutil
import sys
import time
import unittest
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import yaml  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable, SetLaunchConfiguration  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_testing import parametrize, post_shutdown_test  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402
from launch_testing.asserts import assertExitCodes  # noqa: E402
from rclpy.qos import ReliabilityPolicy  # noqa: E402

from support.bags import START, TENTH, TOPIC, raw  # noqa: E402
from support.ros_session import DOMAIN, PATIENCE, RosSession, wait  # noqa: E402
from support.worlds import colour_model, picture  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

NODES = {"one": "/rig/eye", "several": "/vps"}
"""Kind of launch -> the node's name."""
FLAT = {"confirm_hits": 1, "memory_tau": 20, "model": "absent", "reliability": "best_effort"}


@parametrize("kind", NODES)
def generate_test_description(kind):
    """One camera, with a flat parameter file and autostart; several, with the package's file for two cameras."""
    folder = Path(mkdtemp())
    (folder / "flat.yaml").write_text(yaml.safe_dump(FLAT))
    given = {
        "one": {
            "image": TOPIC,
            "config": str(folder / "flat.yaml"),
            "name": "eye",
            "namespace": "rig",
            "reliability": "reliable",
        },
        "several": {
            "cameras": "front=/rig/front/image_raw,left=/rig/left/image_raw",
            "config": str(ROOT / "config" / "cameras.yaml"),
            "autostart": "false",
            "log_level": "warn",
        },
    }[kind]
    given |= {"model": str(colour_model(folder / "colours.onnx")), "use_sim_time": "true"}
    launched = PythonLaunchDescriptionSource(str(ROOT / "launch" / "vps.launch.py"))
    description = [
        SetEnvironmentVariable("ROS_DOMAIN_ID", str(DOMAIN)),
        # A node on a busy machine must not be killed at its end.
        SetLaunchConfiguration("sigterm_timeout", str(PATIENCE)),
        IncludeLaunchDescription(launched, launch_arguments=given.items()),
        ReadyToTest(),
    ]
    return LaunchDescription(description), {"folder": folder, "given": given}


class TestTheNode(unittest.TestCase):
    def setUp(self):
        self.ros = RosSession()
        self.addCleanup(self.ros.close)

    def test_arguments_reach_it_and_win_over_the_file(self, kind, given):
        expected = {"model": given["model"], "autostart": kind == "one", "use_sim_time": True}
        if kind == "one":
            expected |= {"cameras": [""], "reliability": "reliable", "confirm_hits": 1, "memory_tau": 20}
        else:
            expected |= {"cameras": ["front", "left"], "reliability": "best_effort", "memory_tau": 2.0}
        self.ros.state(NODES[kind])
        self.assertEqual({name: self.ros.get(name, NODES[kind]) for name in expected}, expected)

    def test_it_tracks_by_itself_or_on_request(self, kind):
        node = NODES[kind]
        if kind == "several":
            self.assertEqual(self.ros.state(node), "unconfigured")
            self.ros.run(node)
        inputs = {f"{node}/tracks": TOPIC}
        if kind == "several":
            inputs = {f"{node}/{name}/tracks": f"/rig/{name}/image_raw" for name in ("front", "left")}
        for output, topic in inputs.items():
            camera = self.ros.camera(topic).matched()
            self.assertEqual(self.ros.state(node), "active")
            tracks = self.ros.listen(output).matched()
            sent = []

            def answered(camera=camera, tracks=tracks, sent=sent):
                # The node has to discover the two of us first: the first frames may go unheard.
                sent.append(START + len(sent) * TENTH)
                camera.send(raw(picture({0: (8, 40)}), sent[-1]))
                time.sleep(0.1)
                return bool(tracks)

            wait(answered, "tracks")
            self.assertIn(nanoseconds(tracks[0].header.stamp), sent)
            self.assertEqual(tracks[0].header.frame_id, "camera")
            if kind == "one":
                # Confirmed at once, as the file has it.
                self.assertEqual({o.state for o in tracks[0].objects}, {1})
        if kind == "several":
            reliable = {"front": True, "left": False}
            for name, expected in reliable.items():
                (found,) = self.ros.peer.get_subscriptions_info_by_topic(f"/rig/{name}/image_raw")
                self.assertEqual(found.qos_profile.reliability == ReliabilityPolicy.RELIABLE, expected)


@post_shutdown_test()
class TestItsEnd(unittest.TestCase):
    """After launch has sent it SIGINT."""

    def test_it_ends_cleanly(self, proc_info, proc_output, folder, kind):
        shutil.rmtree(folder)
        self.assertEqual(len(proc_info.process_names()), 1)
        assertExitCodes(proc_info)
        said = "".join(one.text.decode() for one in proc_output)
        self.assertEqual("is ready on cpu" in said, kind == "one")
        self.assertNotIn("Traceback", said)
