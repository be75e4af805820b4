"""`vps-ros live --save` and `vps-ros view --live`: real processes on real DDS, their recordings read back."""

import json
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')
pytest.importorskip("rerun", reason="needs rerun-sdk (extra view)")

from support.bags import drive, write
from support.dds import PATIENCE, until
from support.labelled_bags import panoptic_frame, scene, stamp
from support.rrd import maps, read
from support.worlds import colour_model
from vps_ros.commands.view_live import IMAGE, RESULT, LiveFrames, _Camera
from vps_ros.live.health import Level, Status, diagnostic_array
from vps_ros.messages import panoptic
from vps_ros.messages.typestore import typestore
from vps_ros.taxonomy import CITYSCAPES


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return colour_model(tmp_path_factory.mktemp("models") / "colours.onnx")


def test_live_records_what_it_publishes(dds, model, tmp_path):
    bag = write(tmp_path / "bag", drive(6))
    figures = tmp_path / "figures.json"
    live = dds.live(model, "--save", tmp_path / "live.rrd", "--json", figures)
    player = dds.vps("play", bag, "--rate", 2, "--wait", PATIENCE)
    dds.listen("tracks")
    assert player.wait() == 0, player.shown
    until(lambda: dds.received["tracks"], "a result")
    assert live.end() == 0, live.shown
    found, written = read(tmp_path / "live.rrd"), json.loads(figures.read_text())
    shown = written["viewer"]["file"]
    assert shown["problem"] is None
    assert shown["shown"] + shown["dropped"] == written["frames"]
    assert len(found["/camera/image"]["EncodedImage:blob"]) == shown["shown"] > 0
    assert len(found["/plots/drops/replaced"]["Scalars:scalars"]) == shown["shown"]


def test_view_shows_a_camera_and_the_results_of_its_node(dds, model, tmp_path):
    bag = write(tmp_path / "bag", drive(12))
    live = dds.live(model)
    figures = tmp_path / "figures.json"
    view = dds.vps("view", "--live", "/camera/image_raw", "--save", tmp_path / "view.rrd", "--json", figures)
    view.says("/vps/panoptic", "Ctrl-C ends")
    player = dds.vps("play", bag, "--loop", "--rate", 2, "--wait", PATIENCE)
    dds.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    until(lambda: "panoptic (1)" in dds.values().get("listeners", ""), "the viewer's subscription")
    frames = int(dds.values()["frames"])
    until(lambda: int(dds.values()["frames"]) > frames + 5, "some frames")
    time.sleep(0.5)
    assert view.end() == 0, view.shown
    assert (player.end(), live.end()) == (0, 0)
    found = read(tmp_path / "view.rrd")
    assert json.loads(figures.read_text())["file"]["problem"] is None
    assert found["/camera/boxes"]["Boxes2D:labels"][-1]
    assert maps(found["/camera/panoptic"])[-1].shape == (64, 96)
    assert found["/camera/image"]["EncodedImage:blob"]


def test_view_shows_several_cameras_with_their_latency_and_drops(dds, model, tmp_path):
    cameras = "front=/camera/image_raw", "rear=/rear/image_raw"
    live = dds.vps("live", *(part for one in cameras for part in ("--image", one)), "--model", model)
    view = dds.vps("view", *(part for one in cameras for part in ("--live", one)), "--save", tmp_path / "view.rrd")
    view.says("/vps/front/panoptic", "/vps/rear/panoptic", "Ctrl-C ends")
    bags = (
        write(tmp_path / "front", drive(6)),
        write(tmp_path / "rear", [("/rear/image_raw", *m[1:]) for m in drive(6)]),
    )
    players = [dds.vps("play", bag, "--loop", "--rate", 2, "--wait", PATIENCE) for bag in bags]
    view.says("front: ", "with results", "rear: ")
    dds.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    until(lambda: dds.values().get("latency p50 (ms)", "-") != "-", "latency")
    frames = int(dds.values()["frames"])
    until(lambda: int(dds.values()["frames"]) > frames + 20, "frames after the report")
    assert view.end() == 0, view.shown
    assert [one.end() for one in (*players, live)] == [0, 0, 0]
    found = read(tmp_path / "view.rrd")
    for camera in ("front", "rear"):
        assert found[f"/{camera}/camera/boxes"]["Boxes2D:labels"][-1]
        p50, p99 = (found[f"/{camera}/plots/latency/{name}"]["Scalars:scalars"][-1][0] for name in ("p50", "p99"))
        assert 0 < p50 <= p99
        assert found[f"/{camera}/plots/drops/unusable"]["Scalars:scalars"][-1] == [0.0]


def test_the_report_of_a_node_is_that_of_its_camera():
    camera = _Camera("front", "/front/image_raw", "/vps")
    values = (("latency p50 (ms)", "12.5"), ("latency p99 (ms)", "-"), ("dropped for newer ones", "3"), ("failed", "1"))
    others = Status("vps: rear", Level.OK, "", (("latency p50 (ms)", "99.0"), ("failed", "7")))
    camera.report(diagnostic_array(stamp(0), [Status("vps: front", Level.OK, "", values), others]))
    camera._frames.results = False
    image = image_message(0)
    (view,) = camera.take(IMAGE, "sensor_msgs/msg/Image", image)
    assert (view.camera, view.latency, view.drops) == ("front", {"p50": 12.5}, {"replaced": 3, "unusable": 1})


def image_message(index):
    (_, _, message) = drive(index + 1)[index]
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def messages(index):
    frame = panoptic_frame(index, *scene(index))
    return [getattr(panoptic, name)(frame, *([CITYSCAPES] if name != "panoptic" else [])) for name in RESULT]


def add(frames, name, index, content):
    return list(frames.add(name, stamp(index), content))


def test_a_frame_is_shown_when_its_last_message_arrives():
    frames, image = LiveFrames(), np.zeros((12, 32, 3), np.uint8)
    parts = dict(zip(RESULT, messages(0), strict=True))
    assert add(frames, "tracks", 0, parts["tracks"]) == []
    assert add(frames, IMAGE, 0, image) == []
    assert add(frames, "segments", 0, parts["segments"]) == []
    (view,) = add(frames, "panoptic", 0, parts["panoptic"])
    assert view.stamp == stamp(0)
    assert view.image is image
    assert view.result.taxonomy == CITYSCAPES
    assert (view.result.map == panoptic_frame(0, *scene(0)).map).all()
    assert add(frames, "tracks", 0, parts["tracks"]) == [], "it was shown already"


def test_an_image_without_a_result_is_shown_with_the_next_complete_frame():
    frames, image = LiveFrames(), np.zeros((12, 32, 3), np.uint8)
    assert add(frames, IMAGE, 0, image) == []
    for name, content in zip(RESULT, messages(1), strict=True):
        assert add(frames, name, 1, content) == []
    first, second = add(frames, IMAGE, 1, image)
    assert (first.stamp, first.result) == (stamp(0), None)
    assert second.stamp == stamp(1)


def test_without_a_node_each_image_is_shown_at_once():
    frames = LiveFrames(results=False)
    (view,) = add(frames, IMAGE, 0, np.zeros((12, 32, 3), np.uint8))
    assert view.result is None


def test_a_recording_that_starts_again_is_shown_again():
    frames, image = LiveFrames(), np.zeros((12, 32, 3), np.uint8)
    for _ in range(2):
        for index in range(2):
            assert add(frames, IMAGE, index, image) == []
            shown = [
                view
                for name, one in zip(RESULT, messages(index), strict=True)
                for view in add(frames, name, index, one)
            ]
            assert [view.stamp for view in shown] == [stamp(index)]
    assert add(frames, "tracks", 1, messages(1)[2]) == [], "it was shown already"
