"""Parameters of the node in a real ROS 2: types, ranges, changes while it runs, refusals."""

import logging

import pytest

from support.bags import drive

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from rcl_interfaces.msg import ParameterType  # noqa: E402
from rcl_interfaces.srv import SetParametersAtomically  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from support.ros_session import play  # noqa: E402
from vps_ros.config import Config, LiveConfig, NodeConfig, may_be_minus_one, parameters  # noqa: E402


def test_parameters_have_the_declared_types_ranges_and_meanings(ros):
    ros.node()
    types = {bool: "BOOL", int: "INTEGER", float: "DOUBLE", str: "STRING", tuple: "STRING_ARRAY"}
    for kind in (Config, LiveConfig, NodeConfig):
        for p in parameters(kind):
            found = ros.describe(p.name)
            assert found.type == getattr(ParameterType, f"PARAMETER_{types[p.type]}"), p.name
            assert found.description.startswith(p.meaning)
            assert found.read_only == p.once
            assert ("read-only once" in found.additional_constraints) == (not p.live and not p.once)
            ranges = [*found.integer_range, *found.floating_point_range]
            low = -1 if may_be_minus_one(p) else p.low
            assert [(r.from_value, r.to_value) for r in ranges] == ([] if p.low is None else [(low, p.high)])
            default = list(p.default) if p.type is tuple else p.default
            assert ros.get(p.name) == default


def test_parameters_are_those_of_the_chosen_tracker(ros, model, log):
    ros.node(model=model, tracker="sort", iou_threshold=0.25, pixel_threshold=0.5, memory_tau=-1.0)
    log.says("pixel_threshold: ignored, tracker sort has no such parameter")
    log.says("memory_tau: -1 is no longer needed")
    assert ros.get("iou_threshold") == 0.25
    assert ros.set(tracker="hierarchical").successful
    ros.run()
    assert ros.get("association_threshold") == 0.4
    assert not ros.set(iou_threshold=0.5).successful
    assert ros.set(association_threshold=0.5).successful


def test_thresholds_and_tracker_change_while_it_runs(ros, model):
    ros.node(model=model)
    ros.run()
    tracks, segments = ros.listen("/vps/tracks").matched(), ros.listen("/vps/segments").matched()
    camera = ros.camera("/image").matched()
    messages = drive(6)
    play(camera, tracks, messages[:2])
    assert ros.set(confirm_hits=5).successful
    play(camera, tracks, messages[2:3], already=2)
    assert [{o.state for o in m.objects} for m in tracks] == [{0}, {1}, {0}]
    assert ros.set(thing_threshold=1.0).successful
    play(camera, tracks, messages[3:4], already=3)
    assert not any(s.is_thing for s in segments.until(4)[-1].segments)
    assert ros.set(thing_threshold=-1.0).successful
    # As a file may have it, and `ros2 param set`: 20, which is no float.
    assert ros.set(memory_tau=20).successful
    play(camera, tracks, messages[4:], already=4)
    assert {o.track_id for o in tracks[-1].objects} == {1, 2}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("thing_threshold", 1.5, ["thing_threshold", "1.5"]),
        ("association_threshold", -0.5, ["association_threshold", "-0.5", "0..1"]),
        ("thing_threshold", float("nan"), ["thing_threshold", "nan"]),
        ("confirm_hits", 0, ["confirm_hits", "0"]),
        ("confirm_hits", "many", ["STRING"]),
        ("postprocess", "magic", ["postprocess", "'magic' is not one of model, mask_wise, pixel_wise"]),
        ("thing_threshold", "high", ["thing_threshold", "'high'", "float"]),
        ("model", "streets-s", ["model", "unconfigured", "clean up"]),
        ("cameras", ["front"], ["cameras", "unconfigured"]),
        ("autostart", False, ["autostart", "read-only"]),
        ("depth", 3, ["depth", "unconfigured"]),
        ("no_such", 1, ["undeclared"]),
    ],
)
def test_a_bad_value_is_refused_with_its_reason(ros, model, name, value, words):
    ros.node(model=model)
    ros.run()
    before = ros.get(name) if name != "no_such" else None
    result = ros.set(**{name: value})
    assert not result.successful
    for word in words:
        assert word in result.reason
    assert before is None or ros.get(name) == before


def test_values_that_are_set_together_are_all_taken_or_none(ros, model):
    ros.node(model=model)
    ros.run()
    before = ros.get("confirm_hits")
    given = [Parameter(name, value=value) for name, value in {"confirm_hits": 5, "association_threshold": -0.5}.items()]
    asked = [one.to_parameter_msg() for one in given]
    result = ros.call(SetParametersAtomically, "/vps/set_parameters_atomically", parameters=asked).result
    assert not result.successful and "association_threshold" in result.reason
    assert ros.get("confirm_hits") == before


@pytest.mark.parametrize(
    "parameters",
    [
        {"tracker": "magic"},
        {"thing_threshold": 7.0},
        {"depth": 0},
        {"association_threshold": -0.5},
        {"cameras": ["a", "a"]},
    ],
)
def test_a_bad_value_at_the_start_is_refused(ros, parameters):
    heard_by = list(logging.getLogger("vps_ros").handlers)
    with pytest.raises(Exception, match=next(iter(parameters))):
        ros.node(**parameters)
    assert logging.getLogger("vps_ros").handlers == heard_by


def test_an_unknown_parameter_is_logged(ros, log):
    ros.node(memry_tau=3.0)
    log.says("unknown parameter 'memry_tau'; did you mean memory_tau?")
