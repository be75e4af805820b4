"""The node while it is active in a real ROS 2: each parameter, transitions under load, several nodes in one process."""

import time
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from support.bags import START, TENTH, raw
from support.worlds import picture

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from rcl_interfaces.msg import Parameter as ParameterMessage  # noqa: E402
from rcl_interfaces.msg import ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402

from support.ros_session import play, wait, workers  # noqa: E402
from vps_ros.config import Config, LiveConfig, NodeConfig, parameters  # noqa: E402
from vps_ros.ros.parameters import PERIOD  # noqa: E402

PARAMETERS = [p for kind in (Config, LiveConfig, NodeConfig) for p in parameters(kind)] + [PERIOD]
REAL = [p for p in PARAMETERS if p.type is float]


@contextmanager
def images(camera, interval=0.005):
    """Sends images as long as the block runs."""
    over = Event()

    def send():
        for count in range(1_000_000):
            if over.wait(interval):
                return
            camera.send(raw(picture({0: (8 + count % 40, 40), 1: (70, 36)}), START + count * TENTH))

    thread = Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def another(p):
    """A valid value that is not the default."""
    if p.choices:
        (value, *_) = [c for c in p.choices if (c,) != p.default and c != p.default]
        return [value] if p.type is tuple else value
    if p.type is bool:
        return not p.default
    if p.type in (int, float):
        return next(p.type(v) for v in (p.high, p.low) if v != p.default)
    return ["front"] if p.type is tuple else "another"


def integer_of(p):
    """An integer in the range of a real parameter."""
    return next(v for v in (1, 0, int(p.high)) if p.low <= v <= p.high)


def test_each_live_parameter_changes_while_images_come(ros, model):
    node = ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    with images(ros.camera("/image").matched()):
        for p in [p for p in PARAMETERS if p.live]:
            result = ros.set(**{p.name: another(p)})
            assert result.successful, result.reason
            assert ros.get(p.name) == another(p)
            if p in parameters(Config):
                assert getattr(node.live.cameras[0].pipeline.config, p.name) == another(p)
            tracks.until(len(tracks) + 1)
            assert ros.set(**{p.name: p.default}).successful
    assert ros.figures().failed == 0


def test_each_other_parameter_is_refused_while_the_node_is_active(ros, model):
    ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    for p in [p for p in PARAMETERS if not p.live]:
        before = ros.get(p.name)
        result = ros.set(**{p.name: another(p)})
        assert not result.successful
        assert p.name in result.reason and "\n" not in result.reason
        assert ("read-only" if p.once else "clean up") in result.reason
        assert ros.get(p.name) == before
    play(ros.camera("/image").matched(), tracks)


def test_real_parameters_stay_real_when_an_integer_is_given(ros, model):
    """As `ros2 param set` and YAML files have it, at the start and later."""
    ros.node(model=model, **{p.name: integer_of(p) for p in REAL})
    for active in (False, True):
        for p in REAL:
            if active:
                assert ros.set(**{p.name: integer_of(p)}).successful
            assert ros.describe(p.name).type == ParameterType.PARAMETER_DOUBLE
            assert type(ros.get(p.name)) is float and ros.get(p.name) == integer_of(p)
        if not active:
            ros.run()


@pytest.mark.parametrize("name", ["memory_tau", "confirm_hits", "model", PERIOD.name])
def test_no_parameter_can_be_deleted(ros, model, name):
    ros.node(model=model)
    before = ros.get(name)
    unset = ParameterMessage(name=name, value=ParameterValue(type=ParameterType.PARAMETER_NOT_SET))
    assert not ros.call(SetParameters, "/vps/set_parameters", parameters=[unset]).results[0].successful
    assert ros.get(name) == before


def test_the_period_of_diagnostics_changes_at_once(ros, model):
    ros.node(model=model, **{PERIOD.name: 60})
    health = ros.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    assert ros.set(**{PERIOD.name: 0.1}).successful
    health.until(3)


def test_the_classes_are_there_before_the_first_image(ros, model):
    ros.node(model=model)
    ros.run()
    (labels,) = ros.listen("/vps/label_info", latched=True).until(1)
    assert {c.class_name for c in labels.class_map} >= {"road", "sky", "car"}
    tracks, found = ros.listen("/vps/tracks").matched(), ros.listen("/vps/detections").matched()
    play(ros.camera("/image").matched(), tracks)
    names = {str(c.class_id): c.class_name for c in labels.class_map}
    shown = [{names[d.results[0].hypothesis.class_id] for d in message.detections} for message in found.until(4)]
    assert shown == [{"car"}] * 4


def test_transitions_while_images_come(ros, model):
    """However they fall between two frames, none fails and no image is left for the next worker."""
    node = ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    with images(camera, 0.001):
        for steps in (("deactivate", "activate"), ("deactivate", "cleanup", "configure", "activate")) * 3:
            tracks.until(len(tracks) + 1)
            for step in steps:
                assert ros.change(step), step
                time.sleep(0.01)
            camera.matched()
    assert ros.state() == "active" and len(workers()) == 1
    assert node.live.worker.stats[0].figures().failed == 0


def test_nodes_of_one_process_have_their_own_parameters_and_log(ros, model, log):
    front, rear = (ros.node(namespace=name, model=model) for name in ("front", "rear"))
    for name in ("/front/vps", "/rear/vps"):
        ros.run(name)
    assert ros.set("/front/vps", confirm_hits=7).successful
    assert ros.get("confirm_hits", "/rear/vps") == 2
    assert [n.live.cameras[0].pipeline.config.confirm_hits for n in (front, rear)] == [7, 2]
    front_tracks, rear_tracks = (ros.listen(f"/{name}/vps/tracks").matched() for name in ("front", "rear"))
    bad = ros.camera("/rear/image").matched()
    bad.send(raw(picture({}), START, "martian8"))
    play(ros.camera("/front/image").matched(), front_tracks)
    wait(lambda: rear.live.worker.stats[0].figures().failed == 1, "the failure")
    assert {o.state for o in front_tracks[-1].objects} == {0}
    log.says("[rear.vps]", "martian8")
    log.says("[front.vps]", "subscribed to /front/image", level="INFO")
    assert log.count("martian8") == log.count("subscribed to /front/image") == 1
    assert ros.change("deactivate", "/front/vps") and ros.change("cleanup", "/front/vps")
    rear_camera = bad
    play(rear_camera, rear_tracks)


def test_own_topics_are_no_candidates_for_the_image(ros, model, log):
    """Neither the subscription to images nor outputs, also where they have another name."""
    ros.node("image:=/chatter", "~/overlay:=/picture", model=model)
    ros.camera("/chatter", kind="std_msgs/msg/String")
    ros.run()
    log.says("/chatter is a std_msgs/msg/String, not an image; there is no image topic at all")
