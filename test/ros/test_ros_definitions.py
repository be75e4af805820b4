"""The definitions of the ROS package, without ROS: messages, version, what is built, views."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

import vps_ros
from support import ROOT
from support.ros_contract import CONSTANTS, CONTRACT, fields
from vps_ros.frame import AssociatedBy, TrackState
from vps_ros.messages.panoptic import DEPTH_OUTPUTS, OUTPUTS
from vps_ros.messages.typestore import typestore


@pytest.mark.parametrize("name", CONTRACT)
def test_messages_are_those_of_the_contract(name):
    full = f"vps_ros/msg/{name}"
    here = (ROOT / "msg" / f"{name}.msg").read_text()
    assert fields(here, full) == fields(CONTRACT[name], full)
    assert typestore().fielddefs[full] == fields(CONTRACT[name], full)


def test_constants_of_the_messages_are_those_of_the_core():
    constants = {name: value for name, _, value in typestore().fielddefs["vps_ros/msg/TrackedObject"][0]}
    assert constants == CONSTANTS
    assert {member.name: int(member) for kind in (TrackState, AssociatedBy) for member in kind} == CONSTANTS


def test_every_message_is_built_and_no_other():
    listed = re.findall(r"msg/(\w+)\.msg", (ROOT / "CMakeLists.txt").read_text())
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "msg").iterdir()) == sorted(CONTRACT)


def test_no_module_hides_the_generated_ones():
    assert not (ROOT / "vps_ros" / "msg").exists()
    assert not (ROOT / "vps_ros" / "msg.py").exists()


def test_views_show_topics_that_there_are():
    outputs = OUTPUTS | DEPTH_OUTPUTS
    topics = {f"/vps/{name}" for name in outputs} | {"/diagnostics"}
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text())
    placed = set(re.findall(r'"(\w+!\w+)"', json.dumps(layout["layout"])))
    assert placed == set(layout["configById"])
    shown = set(re.findall(r'"(/[\w/]+)', json.dumps(layout["configById"])))
    view = yaml.safe_load((ROOT / "config" / "vps.rviz").read_text())
    displays = {one["Topic"]["Value"]: one["Class"] for one in view["Visualization Manager"]["Displays"]}
    shown |= displays.keys()
    # A display has the name of the message type that it takes.
    for topic, kind in displays.items():
        assert outputs[topic.removeprefix("/vps/")].split("/")[-1] == kind.split("/")[-1]
    assert {"/vps/overlay", "/vps/panoptic", "/vps/tracks", "/vps/objects_3d", "/diagnostics"} <= shown <= topics


def test_there_is_one_version():
    written = re.search(r'^__version__ = "([^"]+)"', (ROOT / "vps_ros" / "__init__.py").read_text(), re.M)[1]
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == written == vps_ros.__version__
    assert package.findtext("name") == "vps_ros"
    assert package.findtext("member_of_group") == "rosidl_interface_packages"


def test_what_cmake_finds_is_declared():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {e.text for e in package if e.tag in ("depend", "build_depend", "buildtool_depend")}
    tested = {e.text for e in package if e.tag == "test_depend"}
    found = set(re.findall(r"find_package\((\w+)", (ROOT / "CMakeLists.txt").read_text()))
    assert declared <= found <= declared | tested
