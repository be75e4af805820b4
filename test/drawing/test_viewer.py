"""The viewer: recordings read back with Rerun, its web server, and viewers that are slow, closed or missing."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from support import ROOT
from vps_ros.drawing.colors import identity_color
from vps_ros.drawing.viewer import QUEUED, Target, Viewer, open_recording
from vps_ros.drawing.viewer_process import _environment, _executable
from vps_ros.drawing.views import MISSED, Truth, View
from vps_ros.errors import InputError
from vps_ros.frame import AssociatedBy, PanopticFrame, Segment, Track, TrackState
from vps_ros.frame_3d import DepthImage, Intrinsics, Object3D, Objects3D
from vps_ros.taxonomy import CITYSCAPES

pytest.importorskip("rerun", reason="needs rerun-sdk (extra view)")
from support.rrd import maps, read  # noqa: E402
from vps_ros.drawing.rerun_log import blueprint, place_labels  # noqa: E402

ROAD, CAR = 0, 13
START, TENTH = 1_700_000_000_000_000_000, 100_000_000
FIRST_THING = 20
"""Value of the thing in slot 0: after void and the 19 classes."""


def track(x, state=TrackState.CONFIRMED, hits=3):
    box = (float(x), 20.0, x + 30.0, 40.0)
    seen = state != TrackState.LOST
    times = (START, START, hits)
    return Track(7, 2, 1 if seen else -1, CAR, 0.9, state, AssociatedBy.NEW, 0.0, box, (0.0, 0.0), 600, *times)


def frame(index, tracks=None):
    """A car, track 7 in slot 2, that moves right over a road; the upper part is void."""
    tracks = (track(10 + index),) if tracks is None else tracks
    ids = np.zeros((60, 100), np.uint16)
    ids[10:] = 1 + ROAD
    segments = [Segment(1 + ROAD, ROAD, False, 1.0, 1, 0)]
    for one in tracks:
        if one.index >= 0:
            x0, y0, x1, y1 = map(int, one.box)
            ids[y0:y1, x0:x1] = 1002
            segments.append(Segment(1002, CAR, True, 0.9, 600, 7))
    times = {"segment": 20.0, "flow": 1.0, "track": 2.0, "other": 0.5}
    return PanopticFrame(START + index * TENTH, "camera", 0, ids, tuple(segments), tracks, CITYSCAPES, None, times)


def view(result, **more):
    image = np.full((*result.map.shape, 3), (40, 90, 140), np.uint8)
    return View(result.stamp, image, result, **more)


def recorded(tmp_path, views, **options):
    path = tmp_path / "shown.rrd"
    with Viewer(Target(save=str(path)), **options) as viewer:
        for one in views:
            viewer.show(one)
    assert viewer.to_json() == {"file": {"shown": len(views), "dropped": 0, "problem": None}}
    return read(path)


def test_objects_in_3d_have_boxes_velocities_and_points(tmp_path):
    metres = np.full((60, 100), np.nan, np.float32)
    metres[20:40, 10:40] = 5
    depth = DepthImage(metres, START, Intrinsics(100.0, 100.0, 49.5, 29.5, 100, 60))
    one = Object3D(7, CAR, 0.9, (-1.25, 0.0, 5.0), (1.5, 1.0, 0.2), (0.5, 0.0, -2.0), (0.1, 0.1, 0.1), 5.0, 600)
    located = replace(frame(0), objects_3d=Objects3D((one,), "camera", depth))
    found = recorded(tmp_path, [view(located), view(frame(1))], depth=True)
    boxes, arrows, points = (found[f"/space/{name}"] for name in ("boxes", "velocities", "points"))
    assert np.allclose(boxes["Boxes3D:half_sizes"][0][0], (0.75, 0.5, 0.1))
    assert boxes["Boxes3D:labels"][0][0] == "car 7"
    assert np.allclose(arrows["Arrows3D:vectors"][0][0], (0.5, 0.0, -2.0))
    places = np.array(points["Points3D:positions"][0])
    assert len(places) == 600
    assert np.allclose(places[0], ((10 - 49.5) / 20, (20 - 29.5) / 20, 5.0))


def test_a_recording_has_image_map_boxes_and_trails(tmp_path):
    found = recorded(tmp_path, [view(frame(i)) for i in range(3)])

    image = cv2.imdecode(np.array(found["/camera/image"]["EncodedImage:blob"][0][0], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(image.astype(int) - (40, 90, 140)).max() <= 4
    values = maps(found["/camera/panoptic"])[1]
    assert values.dtype == np.uint8
    assert values[5, 50] == 0
    assert values[50, 5] == 1 + ROAD
    assert values[30, 20] == FIRST_THING + 2

    names = {}
    for entry in found["/camera"]["AnnotationContext:context"][0][0]:
        info = entry["class_description"]["info"]
        names[info["id"]] = info["label"], info["color"]
    assert names[1 + ROAD] == ("road", 0x804080FF)
    red, green, blue = identity_color(7)
    assert names[FIRST_THING + 2] == ("car 7", red << 24 | green << 16 | blue << 8 | 255)

    boxes = found["/camera/boxes"]
    assert boxes["Boxes2D:labels"] == [["car 7"]] * 3
    assert boxes["Boxes2D:centers"] == [[[25.0 + i, 30.0]] for i in range(3)]
    assert boxes["Boxes2D:class_ids"] == [[FIRST_THING + 2]] * 3
    trails = found["/camera/trails"]["LineStrips2D:strips"]
    assert trails == [[], [[[25.0, 40.0], [26.0, 40.0]]], [[[25.0, 40.0], [26.0, 40.0], [27.0, 40.0]]]]


def test_labels_that_would_cover_those_of_larger_boxes_are_left_out(tmp_path):
    # At the size of the panel, "car 1" is 49 pixels wide and 24 high, below the middle of its box.
    boxes = np.array(
        [[190, 190, 210, 205], [100, 100, 300, 200], [100, 150, 280, 199], [225, 180, 275, 190]], np.float32
    )
    places, named = place_labels(boxes, ["car 1"] * 4, (300, 900))
    assert named.tolist() == [False, True, False, True]
    assert places.tolist() == [[200, 205], [200, 200], [190, 199], [250, 190]]
    assert place_labels(boxes / 9, ["car 1"] * 4, (33, 100))[1].tolist() == [False, True, False, True]
    assert place_labels(np.empty((0, 4), np.float32), [], (300, 900))[1].tolist() == []
    both = (
        track(10)._replace(box=(10.0, 20.0, 40.0, 40.0)),
        track(12)._replace(box=(12.0, 25.0, 40.0, 40.0), track_id=8),
    )
    found = recorded(tmp_path, [view(frame(0, both))])
    assert found["/camera/names"]["Points2D:labels"] == [["car 7"]]
    assert found["/camera/names"]["Points2D:positions"] == [[[25.0, 40.0]]]
    assert found["/camera/boxes"]["Boxes2D:labels"] == [["car 7", "car 8"]]


def test_labels_are_within_the_image():
    boxes = np.array([[0, 200, 20, 300], [880, 100, 900, 290], [300, 0, 400, 300]], np.float32)
    places, named = place_labels(boxes, ["car 1"] * 3, (300, 900))
    assert places.tolist() == [[24.5, 276], [875.5, 276], [350, 276]]
    assert named.all()


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (375, 1242)])
@pytest.mark.parametrize("truth", [False, True])
def test_the_panel_of_the_camera_has_the_form_of_its_images(shape, truth):
    columns = blueprint({"": shape}, truth=truth).root_container
    left, right = columns.contents
    assert left.contents[0].name == "Camera and tracks"
    # On a screen of 1600x800 pixels, with titles of 28 pixels.
    width, height = 1600 * columns.column_shares[0], 800 * left.row_shares[0] - 28
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.01)
    assert sum(columns.column_shares) == pytest.approx(1)
    assert sum(left.row_shares) == pytest.approx(1)
    assert len(right.row_shares) == len(right.contents)


def test_a_recording_has_plots_and_the_life_of_each_track(tmp_path):
    tentative = track(10, TrackState.TENTATIVE, 1)
    lost = track(10, TrackState.LOST)
    results = [frame(0, (tentative,)), frame(1), frame(2), frame(3, (lost,)), frame(4, ())]
    drops = [view(one, drops={"unusable": i // 2}) for i, one in enumerate(results)]
    found = recorded(tmp_path, drops)

    # It was confirmed in frame 1, lost in 3, and forgotten in 4.
    life = found["/tracks/0007_car"]
    assert life["StateChange:state"] == [["confirmed"], ["lost"], ["forgotten"]]
    assert life["StateConfiguration:values"] == [["tentative", "confirmed", "lost", "forgotten"]]
    assert life["StateConfiguration:visible"] == [[True, True, True, False]]
    assert found["/plots/latency/segment"]["Scalars:scalars"] == [[20.0]] * 5
    assert found["/plots/objects/visible"]["Scalars:scalars"] == [[1.0], [1.0], [1.0], [0.0], [0.0]]
    assert found["/plots/drops/unusable"]["Scalars:scalars"] == [[0.0], [0.0], [1.0], [1.0], [2.0]]


def test_ground_truth_and_errors_are_beside_the_result(tmp_path):
    result = frame(0)
    semantic, instance = result.class_map, result.track_map * 400
    errors = np.where(instance > 0, MISSED, 0).astype(np.uint8)
    found = recorded(tmp_path, [view(result, truth=Truth(semantic, instance, CITYSCAPES, errors))], truth=True)
    labels = [e["class_description"]["info"]["label"] for e in found["/truth"]["AnnotationContext:context"][0][0]]
    assert labels[-1] == "car 2800"
    assert maps(found["/truth/panoptic"])[0][30, 20] == FIRST_THING
    assert (maps(found["/errors/map"])[0] == errors).all()


def test_cameras_have_their_own_entities(tmp_path):
    views = [replace(view(frame(0)), camera=name) for name in ("front", "rear")]
    found = recorded(tmp_path, views, cameras=("front", "rear"))
    assert {"/front/camera/panoptic", "/rear/camera/panoptic"} <= found.keys()


def test_rerun_itself_accepts_a_recording(tmp_path):
    recorded(
        tmp_path, [view(frame(0)), view(frame(1)), view(frame(2, (track(10, TrackState.LOST),))), view(frame(3, ()))]
    )
    path = tmp_path / "shown.rrd"
    run = subprocess.run([sys.executable, "-m", "rerun", "rrd", "verify", path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with open_recording(str(path), Target(web=True)) as served, urlopen(served.page, timeout=30) as page:
        assert page.status == 200
    with pytest.raises(InputError, match="exists; pass --force"), Viewer(Target(save=str(path))):
        pass


def test_an_error_leaves_no_recording(tmp_path):
    with pytest.raises(ZeroDivisionError), Viewer(Target(save=str(tmp_path / "shown.rrd"))) as viewer:
        viewer.show(view(frame(0)))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_complete_while_the_web_viewer_is_still_served(tmp_path):
    with Viewer(Target(web=True, save=str(tmp_path / "shown.rrd")), wait=True) as viewer:
        viewer.show(view(frame(0)))
        assert not (tmp_path / "shown.rrd").exists()
        viewer.finish()
        assert read(tmp_path / "shown.rrd")["/camera/boxes"]["Boxes2D:labels"] == [["car 7"]]
        with urlopen(viewer.url, timeout=30) as page:
            assert page.status == 200


def test_a_server_that_is_no_viewer_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"rerun+http://127.0.0.1:{server.getsockname()[1]}/proxy"
        with Viewer(Target(connect=url)) as viewer:
            for i in range(QUEUED):
                viewer.show(view(frame(i)))
            server.accept()[0].close()
            connection = server.accept()[0]
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n")
            connection.close()
            server.close()
    figures = viewer.to_json()["connect"]
    assert figures["shown"] + figures["dropped"] == QUEUED
    assert viewer.losses()


def test_the_web_viewer_is_served_on_loopback_and_ends_with_the_block():
    with Viewer(Target(web=True), wait=True) as viewer:
        viewer.show(view(frame(0)))
        viewer.finish()
        assert viewer.url.startswith("http://127.0.0.1:")
        with urlopen(viewer.url, timeout=30) as page:
            assert b"rerun" in page.read().lower()
        assert viewer.to_json() == {"web": {"shown": 1, "dropped": 0, "problem": None}}
        port = int(viewer.url.split(":")[2].partition("/")[0])
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_a_viewer_that_ends_is_reported_and_the_rest_is_recorded(tmp_path):
    with Viewer(Target(web=True, save=str(tmp_path / "all.rrd")), wait=True) as viewer:
        viewer.show(view(frame(0)))
        viewer._web.process.kill()
        viewer._web.process.wait()
        for i in range(1, 30):
            viewer.show(view(frame(i)))
        assert viewer.open, "the file still takes frames"
    figures = viewer.to_json()
    assert figures["file"] == {"shown": 30, "dropped": 0, "problem": None}
    assert figures["web"]["shown"] + figures["web"]["dropped"] == 30
    assert "ended with code -9" in figures["web"]["problem"]
    (line,) = viewer.losses()
    assert line.startswith("viewer (web): ")
    assert len(read(tmp_path / "all.rrd")["/camera/boxes"]["Boxes2D:labels"]) == 30


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals of POSIX")
def test_a_viewer_that_takes_nothing_does_not_hold_the_pipeline():
    noise = np.random.default_rng(0).integers(0, 256, (600, 1000, 3), np.uint8)
    result = replace(frame(0), map=np.kron(frame(0).map, np.ones((10, 10), np.uint16)))
    with Viewer(Target(web=True)) as viewer:
        os.kill(viewer._web.process.pid, signal.SIGSTOP)
        try:
            for _ in range(40 + QUEUED):
                # Would never return if it waited.
                viewer.show(View(result.stamp, noise, result))
        finally:
            os.kill(viewer._web.process.pid, signal.SIGCONT)
    figures = viewer.to_json()["web"]
    assert figures["dropped"] > 0
    assert figures["shown"] + figures["dropped"] == 40 + QUEUED
    assert any("slower than the pipeline" in line for line in viewer.losses())


def test_a_port_in_use_is_one_line():
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port} of the viewer: Address already in use; .* --port"),
            Viewer(Target(web=True, port=port)),
        ):
            pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the display of Linux")
def test_no_display_is_one_line(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="no display .* --web"), Viewer(Target(window=True)):
        pass


@pytest.mark.parametrize("url", ["localhost:9876", "http://host/proxy", "rerun+http://host:1/other"])
def test_what_is_no_address_of_a_viewer_is_refused(url):
    with pytest.raises(InputError, match="not the address of a viewer"), Viewer(Target(connect=url)):
        pass


def test_a_viewer_that_does_not_answer_is_refused():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"rerun+http://127.0.0.1:{free.getsockname()[1]}/proxy"
        with pytest.raises(InputError, match="no viewer answers"), Viewer(Target(connect=url)):
            pass


def test_a_viewer_elsewhere_gets_the_frames():
    with Viewer(Target(web=True)) as server, Viewer(Target(connect=server._web.url), wait=True) as viewer:
        viewer.show(view(frame(0)))
        viewer.finish()
        assert viewer.to_json()["connect"] == {"shown": 1, "dropped": 0, "problem": None}


def test_without_the_package_the_extra_is_named():
    code = (
        "import sys; sys.modules['rerun'] = None\n"
        "from vps_ros.drawing.viewer import Target, Viewer\n"
        "try: Viewer(Target(save='x.rrd')).__enter__()\n"
        "except Exception as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "vps_ros[view]" in run.stdout, run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have only the settings of the user")
def test_viewers_are_started_without_usage_statistics(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = subprocess.run(
        [_executable(), "analytics", "config"],
        env=_environment(str(tmp_path / "settings")),
        capture_output=True,
        text=True,
    )
    # The first line of the answer may be a greeting.
    assert json.loads(found.stdout[found.stdout.index("{") :])["analytics_enabled"] is False
    assert not list(tmp_path.glob(".local/share/rerun/analytics/*"))
