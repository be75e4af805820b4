"""The node with clips in a real ROS 2: one result for each image, with its stamp, at most T - 1 - O frames late."""

import signal
import sys
import time

import pytest

from support import ROOT
from support.bags import START, TENTH, TOPIC, drive, raw
from support.worlds import colour_model, picture
from vps_ros.clips import ClipSpec

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from support.ros_session import PATIENCE, wait  # noqa: E402
from vps_ros.live.worker import Worker  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

COUNT = 8


@pytest.fixture
def patient_stop(monkeypatch):
    """The last clip may take longer than a node waits for it by default, on a busy machine."""
    monkeypatch.setattr(Worker.stop, "__defaults__", (PATIENCE,))


def stamps(messages):
    return [nanoseconds(m.header.stamp) for m in messages]


def until_first(camera, results, make):
    """Sends images until one has a result: discovery takes time. Returns their number."""
    for count in range(10_000):
        camera.send(make(count))
        time.sleep(0.3)
        if results:
            return count + 1
    raise AssertionError("no result")


@pytest.mark.parametrize("kernels", [False, True], ids=["clip model", "kernels"])
@pytest.mark.parametrize(
    "spec", [ClipSpec(2, 1), ClipSpec(3, 0), ClipSpec(5, 2)], ids=lambda s: f"{s.length}-{s.overlap}"
)
@pytest.mark.parametrize("end", ["deactivate", "active_shutdown"])
def test_each_stamp_has_one_result_in_time_and_the_end_publishes_the_last_clip(
    ros, folder, patient_stop, kernels, spec, end
):
    path = colour_model(folder / "clips.onnx", kernels=kernels, clip=None if kernels else spec)
    length = {"clip_length": spec.length} if kernels else {}
    node = ros.node(model=str(path), reliability="reliable", clip_overlap=spec.overlap, **length)
    ros.run()
    tracks, panoptic = (ros.listen(f"/vps/{name}").matched() for name in ("tracks", "panoptic"))
    wait(lambda: all(node.live.cameras[0].sink.wants(name) for name in ("tracks", "panoptic")), "both subscribers")
    camera = ros.camera("/image").matched()
    pipeline, sent = node.live.cameras[0].pipeline, []
    for _, stamp, message in drive(COUNT):
        camera.send(message)
        sent.append(stamp)
        wait(lambda: ros.figures().frames + len(pipeline.waiting) >= len(sent), "the image")
        done = ros.figures().frames
        assert len(sent) - done <= spec.late
        assert stamps(tracks.until(done)) == sent[:done]
    assert ros.change(end)
    assert stamps(tracks.until(COUNT)) == stamps(panoptic.until(COUNT)) == sent
    assert {o.track_id for m in tracks for o in m.objects} == {1, 2}


@pytest.mark.slow
def test_the_launch_file_takes_clips(ros, folder, process):
    path = colour_model(folder / "kernels.onnx", kernels=True)
    given = [f"image:={TOPIC}", f"model:={path}", "clip_length:=2", "clip_overlap:=1", "reliability:=reliable"]
    launched = process("ros2", "launch", ROOT / "launch" / "vps.launch.py", *given)
    tracks = ros.listen("/vps/tracks")
    camera = ros.camera(TOPIC).matched()
    make = lambda count: raw(picture({0: (8 + count % 40, 40)}), START + count * TENTH)  # noqa: E731
    first = until_first(camera, tracks, make)
    assert (ros.get("clip_length"), ros.get("clip_overlap")) == (2, 1)
    before = len(tracks)
    for count in range(first, first + COUNT):
        camera.send(make(count))
        tracks.until(before + 1 + count - first)
    assert stamps(tracks[before:]) == [START + count * TENTH for count in range(first, first + COUNT)]
    launched.send_signal(signal.SIGINT)
    assert launched.wait(PATIENCE) == 0, launched.log.read_text()
    assert "Traceback" not in launched.log.read_text()


@pytest.mark.slow
def test_a_signal_publishes_the_last_clip(ros, folder, process):
    path = colour_model(folder / "clips.onnx", clip=ClipSpec(4, 0))
    given = ["-p", f"model:={path}", "-p", "reliability:=reliable", "-p", "diagnostic_updater.period:=0.05"]
    vps = process(sys.executable, ROOT / "scripts" / "vps", "--ros-args", *given)
    tracks, health = ros.listen("/vps/tracks"), ros.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    camera = ros.camera("/image").matched()
    make = lambda count: raw(picture({0: (8, 40)}), START + count * TENTH)  # noqa: E731
    sent = until_first(camera, tracks, make)

    def received():
        return int({v.key: v.value for v in health[-1].status[0].values}["received"]) if health else 0

    wait(lambda: received() > 0, "diagnostics")
    already = received()
    camera.send(make(sent))
    wait(lambda: received() == already + 1, "the last image")
    # The worker has to take it from its buffer.
    time.sleep(0.5)
    vps.send_signal(signal.SIGINT)
    assert vps.wait(PATIENCE) == 0, vps.log.read_text()
    wait(lambda: stamps(tracks)[-1] == START + sent * TENTH, "the result of the last image")
    assert len(set(stamps(tracks))) == len(tracks)
