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
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_testing import parametrize, post_shutdown_test  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402
from launch_testing.asserts import assertExitCodes  # noqa: E402

from support.bags import START, TENTH, TOPIC, raw  # noqa: E402
from support.ros_session import DOMAIN, RosSession, wait  # noqa: E402
from support.worlds import colour_model, picture  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

NODE = "/rig/eye"
PARAMETERS = {"confirm_hits": 1, "memory_tau": 20, "model": "absent", "reliability": "best_effort"}


@parametrize("autostart", ["true", "false"])
def generate_test_description(autostart):
    """One camera and a flat file; two cameras, a ROS file and few lines in the log."""
    folder = Path(mkdtemp())
    config = folder / "drive.yaml"
    one = autostart == "true"
    config.write_text(yaml.safe_dump(PARAMETERS if one else {"/**": {"ros__parameters": PARAMETERS}}))
    given = {
        **({"image": TOPIC} if one else {"cameras": f"front={TOPIC},left", "log_level": "warn"}),
        "model": str(colour_model(folder / "colours.onnx")),
        "config": str(config),
        "name": "eye",
        "namespace": "rig",
        "reliability": "reliable",
        "autostart": autostart,
        "use_sim_time": "true",
    }
    launched = PythonLaunchDescriptionSource(str(ROOT / "launch" / "vps.launch.py"))
    description = [
        SetEnvironmentVariable("ROS_DOMAIN_ID", str(DOMAIN)),
        IncludeLaunchDescription(launched, launch_arguments=given.items()),
        ReadyToTest(),
    ]
    return LaunchDescription(description), {"folder": folder, "given": given}


class TestTheNode(unittest.TestCase):
    def setUp(self):
        self.ros = RosSession()
        self.addCleanup(self.ros.close)

    def test_arguments_reach_it_and_win_over_the_file(self, given):
        expected = {
            "model": given["model"],
            "autostart": given["autostart"] == "true",
            "use_sim_time": True,
            "reliability": "reliable",
            "cameras": [""] if "image" in given else ["front", "left"],
            "confirm_hits": 1,
            "memory_tau": 20,
        }
        self.ros.state(NODE)
        self.assertEqual({name: self.ros.get(name, NODE) for name in expected}, expected)

    def test_it_tracks_by_itself_or_when_it_is_told_to(self, given):
        if given["autostart"] == "false":
            self.assertEqual(self.ros.state(NODE), "unconfigured")
            self.ros.run(NODE)
        camera = self.ros.camera(TOPIC).matched()
        self.assertEqual(self.ros.state(NODE), "active")
        tracks = self.ros.listen(f"{NODE}/tracks" if "image" in given else f"{NODE}/front/tracks").matched()
        sent = []

        def answered():
            # The node has to discover the two of us first: the first frames may go unheard.
            sent.append(START + len(sent) * TENTH)
            camera.send(raw(picture({0: (8, 40)}), sent[-1]))
            time.sleep(0.1)
            return bool(tracks)

        wait(answered, "tracks")
        self.assertIn(nanoseconds(tracks[0].header.stamp), sent)
        self.assertEqual(tracks[0].header.frame_id, "camera")
        # Confirmed at once, as the file has it.
        self.assertEqual({o.state for o in tracks[0].objects}, {1})


@post_shutdown_test()
class TestItsEnd(unittest.TestCase):
    """After launch has sent it SIGINT."""

    def test_it_ends_cleanly(self, proc_info, proc_output, folder, given):
        shutil.rmtree(folder)
        self.assertEqual(len(proc_info.process_names()), 1)
        assertExitCodes(proc_info)
        said = "".join(one.text.decode() for one in proc_output)
        self.assertEqual("is ready on cpu" in said, given.get("log_level") != "warn")
        self.assertNotIn("Traceback", said)
