"""`vps-ros live` announces its node to peers that understand the message, and to no others."""

import time

import pytest

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')

from cyclonedds.core import Entity
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.topic import Topic

from support.bags import drive, write
from support.dds import TYPES, until
from support.worlds import colour_model
from vps_ros.live.dds_serialisation import dds_type
from vps_ros.live.transport import QosProfile
from vps_ros.messages.typestore import read_message

TOPIC, KIND = "ros_discovery_info", "rmw_dds_common/msg/ParticipantEntitiesInfo"
LATCHED = QosProfile(depth=1, latched=True)


def of_humble(dds) -> DataWriter:
    """A writer as ROS 2 had it before types had hashes."""
    quality = Qos(Policy.Reliability.Reliable(0), Policy.Durability.TransientLocal)
    participant = dds.participant.entity
    return DataWriter(participant, Topic(participant, TOPIC, dds_type(KIND)), quality)


@pytest.mark.slow
def test_nodes_are_announced_to_peers_with_type_hashes(dds, tmp_path):
    received = []
    dds.participant.endpoint_reader(TOPIC, KIND, LATCHED, lambda data: received.append(read_message(bytes(data), KIND)))
    old = of_humble(dds)
    live = dds.live(colour_model(tmp_path / "colours.onnx"), "--name", "rig/vps")
    dds.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    until(lambda: len(dds.received["diagnostics"]) > 3)
    assert not received
    new = dds.participant.endpoint_writer(TOPIC, KIND, LATCHED)
    time.sleep(2.5)
    assert not received, "one who does not understand it is still there"
    Entity.__del__(old)
    until(lambda: received, "the announcement")
    (node,) = received[-1].node_entities_info_seq
    assert (node.node_namespace, node.node_name) == ("/rig", "vps")
    # Two services have a reader and a writer each; images and camera_info come in; the rest goes out.
    assert (len(node.reader_gid_seq), len(node.writer_gid_seq)) == (2 + 2, 2 + len(TYPES) - 1 + 1)
    keys = {bytes(gid.data) for gid in (*node.reader_gid_seq, *node.writer_gid_seq)}
    assert len(keys) == len(node.reader_gid_seq) + len(node.writer_gid_seq)
    # An endpoint's first twelve bytes are its participant's.
    assert {key[:12] for key in keys} == {bytes(received[-1].gid.data)[:12]}
    player = dds.vps("play", write(tmp_path / "bag", drive(1, "/unheard")), "--wait", 3600)
    until(lambda: any(n.node_name == "vps_play" for m in received for n in m.node_entities_info_seq), "the other node")
    assert new and (live.end(), player.end()) == (0, 0)
