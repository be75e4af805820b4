"""The configuration of DDS, and topic names; no network is needed."""

import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip("cyclonedds")

from vps_ros.errors import InputError  # noqa: E402
from vps_ros.live.dds import HIGHEST_DOMAIN, check_interface, configuration, domain_id  # noqa: E402
from vps_ros.live.subscriptions import camera_info_topic  # noqa: E402
from vps_ros.live.transport import QosProfile, absolute, qos_mismatch  # noqa: E402


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (None, {}, 0),
        (None, {"ROS_DOMAIN_ID": ""}, 0),
        (None, {"ROS_DOMAIN_ID": "42"}, 42),
        (7, {"ROS_DOMAIN_ID": "42"}, 7),
        (0, {"ROS_DOMAIN_ID": "42"}, 0),
        (HIGHEST_DOMAIN, {}, HIGHEST_DOMAIN),
    ],
)
def test_the_domain_comes_from_the_flag_or_ros_domain_id(given, environment, expected):
    assert domain_id(given, environment) == expected


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        (HIGHEST_DOMAIN + 1, {}, "--domain: '233'"),
        (-1, {}, "--domain: '-1'"),
        (None, {"ROS_DOMAIN_ID": "many"}, "ROS_DOMAIN_ID: 'many'"),
    ],
)
def test_an_invalid_domain_is_refused(given, environment, words):
    with pytest.raises(InputError, match=words):
        domain_id(given, environment)


def parts(text):
    """The configuration's fragments as XML."""
    return [ElementTree.fromstring(part) for part in text.split(",") if part.startswith("<")]


def found(text, path):
    return [element.text for part in parts(text) for element in part.findall(f"Domain/{path}")]


def test_discovery_limited_to_this_machine():
    text = configuration(None, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "localhost", "ROS_STATIC_PEERS": "10.0.0.9"})
    assert found(text, "General/AllowMulticast") == ["false"]
    peers = [one.get("address") for part in parts(text) for one in part.findall("Domain/Discovery/Peers/Peer")]
    assert peers == ["localhost", "10.0.0.9"]
    older = configuration(None, {"ROS_LOCALHOST_ONLY": "1", "ROS_STATIC_PEERS": "10.0.0.9"})
    assert "localhost" in older
    assert "10.0.0.9" not in older


def interfaces(text):
    return [one.attrib for part in parts(text) for one in part.findall("Domain/General/Interfaces/NetworkInterface")]


def test_discovery_limited_to_this_machine_uses_the_loopback_interface():
    loopback = {"address": "127.0.0.1"}
    for alone in ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, {"ROS_LOCALHOST_ONLY": "1"}):
        assert interfaces(configuration(None, alone)) == [loopback]
        assert interfaces(configuration("eth0", alone)) == [{"name": "eth0"}]
        tracing = "<CycloneDDS><Domain><Tracing><Verbosity>fine</Verbosity></Tracing></Domain></CycloneDDS>"
        assert interfaces(configuration(None, {**alone, "CYCLONEDDS_URI": tracing})) == [loopback]
        named = '<General><Interfaces><NetworkInterface name="lo"/></Interfaces></General>'
        named = f"<CycloneDDS><Domain>{named}</Domain></CycloneDDS>"
        assert interfaces(configuration(None, {**alone, "CYCLONEDDS_URI": named})) == [{"name": "lo"}]
        assert interfaces(configuration(None, {**alone, "CYCLONEDDS_URI": "file:///etc/dds.xml"})) == []
    near = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "127.0.0.9;no such host"}
    assert interfaces(configuration(None, near)) == [loopback]
    assert interfaces(configuration(None, {"ROS_STATIC_PEERS": "127.0.0.9"})) == []


def test_discovery_on_the_network_by_default():
    assert found(configuration(None, {}), "General/AllowMulticast") == []
    assert found(configuration(None, {}), "Discovery/ParticipantIndex") == ["auto"]
    bare = configuration(None, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"})
    assert found(bare, "Discovery/ParticipantIndex") == []
    with pytest.raises(InputError, match="OFF"):
        configuration(None, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"})


def test_cyclonedds_uri_wins_over_defaults_and_an_interface_over_both():
    own = "<CycloneDDS><Domain><General><MaxMessageSize>1400B</MaxMessageSize></General></Domain></CycloneDDS>"
    text = configuration("eth0", {"CYCLONEDDS_URI": own})
    assert found(text, "General/MaxMessageSize") == ["65500B", "1400B"]
    last = parts(text)[-1].find("Domain/General/Interfaces/NetworkInterface")
    assert last.attrib == {"name": "eth0"}
    by_address = parts(configuration("10.0.0.7", {}))[-1].find("Domain/General/Interfaces/NetworkInterface")
    assert by_address.attrib == {"address": "10.0.0.7"}
    assert configuration(None, {"CYCLONEDDS_URI": "file:///etc/dds.xml"}).endswith(",file:///etc/dds.xml")


def test_an_unknown_interface_is_refused_with_the_known_ones():
    check_interface(None)
    check_interface("lo")
    check_interface("192.0.2.1")
    with pytest.raises(InputError, match=r"'warp9'; it has .*\blo\b"):
        check_interface("warp9")


@pytest.mark.parametrize("name", ["/camera/image_raw", "camera/image_raw", "_x", "/a/b1/c_2"])
def test_names_become_absolute(name):
    assert absolute(name) == "/" + name.removeprefix("/")


@pytest.mark.parametrize("name", ["", "/", "a b", "/a//b", "/a/", "1a", "/camera/Bild-1", "/straße"])
def test_invalid_names_are_refused(name):
    with pytest.raises(InputError, match="not a topic name"):
        absolute(name)


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/camera/image_raw", "/camera/camera_info"),
        ("/camera/image_raw/compressed", "/camera/camera_info"),
        ("/image", "/camera_info"),
    ],
)
def test_camera_info_is_beside_the_image(image, info):
    assert camera_info_topic(image) == info


def test_a_publisher_that_offers_less_than_the_subscriber_asks_for_is_a_mismatch():
    reliable, best_effort, latched = QosProfile(), QosProfile("best_effort"), QosProfile(latched=True)
    assert (
        qos_mismatch(reliable, best_effort) == qos_mismatch(latched, reliable) == qos_mismatch(reliable, reliable) == ""
    )
    assert qos_mismatch(best_effort, reliable) == (
        "the publisher offers best_effort, volatile; the subscriber asks for reliable, volatile; "
        "set reliability best_effort for the subscriber"
    )
    assert qos_mismatch(best_effort, latched).endswith(
        "set reliability best_effort and durability volatile for the subscriber"
    )
