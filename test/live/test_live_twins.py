"""Two nodes of one name on the wire."""

import logging

import pytest

pytest.importorskip("cyclonedds", reason='the ROS 2 wire needs cyclonedds; pip install "vps_ros[live]"')

from support.wire import until
from vps_ros.live.dds import Bus
from vps_ros.live.dds_graph import Graph
from vps_ros.live.dds_sink import DdsSink
from vps_ros.live.dds_twins import Twins


def test_another_node_of_the_same_name_is_told_once_when_it_is_no_ghost(apart, caplog):
    with Bus() as bus, caplog.at_level(logging.WARNING):
        graph = Graph(bus)
        twins = Twins(graph, ["/vps/tracks"])
        mine = DdsSink(bus, "/vps")
        DdsSink(bus, "/other")
        assert [twins.look(now) for now in (0, 100, 200)] == [""] * 3
        theirs = DdsSink(bus, "/vps")
        # One that was killed is still known for as long as its lease runs.
        assert [twins.look(now) for now in (300, 306, 311)] == [""] * 3
        for now in (317, 318, 330):
            assert "/vps/tracks" in twins.look(now)
            assert "--name" in twins.look(now)
        assert len(caplog.records) == 1
        del theirs
        until(lambda: sum(offer.topic == "/vps/tracks" for offer in graph.offers()) == 1, "its leaving")
        assert twins.look(400) == ""
        del mine
