"""Two nodes of one name in a domain."""

import pytest

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')

from support.dds import until
from vps_ros.live.dds import DdsParticipant
from vps_ros.live.dds_transport import DdsTransport
from vps_ros.live.node import CameraOutputs, DuplicateNodeMonitor


def test_another_node_of_the_same_name_is_reported_unless_it_is_a_killed_one(private_domain):
    with DdsParticipant() as participant:
        transport = DdsTransport(participant, "vps")
        monitor = DuplicateNodeMonitor(transport, ["~/tracks"])
        mine = CameraOutputs(transport)
        other = CameraOutputs(DdsTransport(participant, "other"))
        assert [monitor.check(now) for now in (0, 100, 200)] == [""] * 3
        theirs = CameraOutputs(DdsTransport(participant, "vps"))
        # The publishers of a killed node count until its lease of up to 20 s ends.
        assert [monitor.check(now) for now in (300, 306, 311, 321)] == [""] * 4
        for now in (327, 328, 340):
            assert "/vps/tracks" in monitor.check(now)
            assert "--name" in monitor.check(now)
        theirs.close()
        until(lambda: len(transport.publishers("~/tracks")) == 1, "the end of the other node")
        assert monitor.check(400) == ""
        mine.close()
        other.close()
