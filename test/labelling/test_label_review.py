"""The review page: its JSON interface, and what a person does with it in a browser."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.chromium import SHIFT, Chromium
from support.track_folders import save_frame, street
from support.worlds import CAR_ID, ROAD_ID, SKY_ID
from vps_ros.commands.main import main
from vps_ros.datasets.kitti_step import decode
from vps_ros.errors import InputError
from vps_ros.labelling.edits import Accept, ClassifyStuff, Delete, LayerFrame, Merge, Undo
from vps_ros.labelling.project import Project
from vps_ros.labelling.review import ReviewServer
from vps_ros.taxonomy import VOID_ID

FRAMES, LABELLED = 9, (0, 4, 8)
BUILDING = 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project of the small street with given masks: person 1, cars 2, 3 and 4; in the last frame car 3 is car 5."""
    root = tmp_path_factory.mktemp("review")
    for i in range(FRAMES):
        save_frame(root, "0000", f"{i:06d}", *street(i))
    words = ["--image-hz", "8", "--hz", "2", "--masks", f"{root}/maps/0000", "--taxonomy", "cityscapes"]
    assert main(["label", "new", f"{root}/images/0000", "-o", f"{root}/p", *words]) == 0
    return root / "p"


@pytest.fixture
def project(made, tmp_path):
    """A copy with tracks by the street's own numbers."""
    import shutil

    shutil.copytree(made, tmp_path / "p")
    return Project(tmp_path / "p")


@contextmanager
def served(project):
    server = ReviewServer(project)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def request(server, method, path, body=None, token=None, **headers):
    """(status, headers, content) of a request below the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if method == "POST":
        headers = {"Content-Type": "application/json", **headers}
    connection.request(method, f"/{token or server.token}/{path}", data, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def state(server):
    return json.loads(request(server, "GET", "api/state")[2])


def test_state_and_edits_by_json(project):
    with served(project) as server:
        about = json.loads(request(server, "GET", "api/project")[2])
        assert (about["name"], about["frames"], about["width"], about["height"]) == ("0000", FRAMES, 160, 48)
        first = state(server)
        assert [f["frame"] for f in first["frames"]] == list(LABELLED)
        ids = sorted(t["id"] for t in first["tracks"])
        status, _, content = request(
            server, "POST", "api/edit", {"version": first["version"], "edit": {"op": "accept", "track": ids[0]}}
        )
        changed = json.loads(content)
        assert status == 200
        assert [t["accepted"] for t in changed["tracks"]] == [False] * (len(ids) - 1) + [True]
        assert Project(project.root).edits()[-1] == Accept(ids[0])
        # The page of another window still shows the first state.
        status, _, content = request(
            server, "POST", "api/edit", {"version": first["version"], "edit": {"op": "accept", "track": ids[1]}}
        )
        assert status == 409
        assert "another program" in json.loads(content)["error"]
        # What another program appends is seen.
        project.append([Merge(ids[0], ids[1])])
        assert len(state(server)["tracks"]) == len(ids) - 1


def test_pictures(project):
    with served(project) as server:
        status, headers, content = request(server, "GET", "maps/4?v=1")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        semantic, instance = decode(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
        expected = project.labels(project.state(), 4)
        assert np.array_equal(semantic, expected.semantic)
        assert np.array_equal(instance, expected.instance)
        assert request(server, "GET", "images/5")[2] == project.image_path(5).read_bytes()
        for path in ("maps/5", "images/9", "images/-1", "images/..%2f..%2fproject.json", "../p/project.json", "x"):
            assert request(server, "GET", path)[0] == 404, path
        project.image_path(5).unlink()
        next((project.root / "layers").glob("*/000004.png")).unlink()
        for path in ("images/5", "maps/4"):
            status, _, content = request(server, "GET", path)
            assert status == 404 and f"00000{path[-1]}" in json.loads(content)["error"]


def test_regions_of_stuff(project):
    """The sky becomes building, then a deleted car becomes sky."""
    before = project.labels(project.state(), 4)
    car = int(before.instance[14, 22])
    project.append([ClassifyStuff(4, 0, 0, BUILDING)])
    found = project.labels(project.state(), 4)
    assert np.array_equal(found.semantic == BUILDING, before.semantic == SKY_ID)
    project.append([Delete(car), ClassifyStuff(4, 22, 14, SKY_ID)])
    found = project.labels(project.state(), 4)
    assert (found.semantic[before.instance == car] == SKY_ID).all()
    assert (found.semantic == SKY_ID).sum() == (before.instance == car).sum()
    # Things that nobody accepted are void for the propagation; what was classified before is not changed by that.
    assert np.array_equal(
        project.labels(project.state(), 4, accepted_only=True).semantic,
        np.where(found.instance > 0, VOID_ID, found.semantic),
    )
    project.append([Undo()])
    assert (project.labels(project.state(), 4).semantic[before.instance == car] == VOID_ID).all()
    # A new layer replaces the masks of its frames.
    project.add_layer("import", [(4, before, LayerFrame(()))])
    assert np.array_equal(project.labels(project.state(), 4).semantic == SKY_ID, before.semantic == SKY_ID)


def test_nobody_else_gets_in(project):
    with served(project) as server:
        before = (project.root / "edits.jsonl").read_bytes()
        edit = {"version": 1, "edit": {"op": "accept", "track": 1}}
        assert server.server_address[0] == "127.0.0.1"
        assert request(server, "GET", "", token="wrong")[0] == 403
        assert request(server, "POST", "api/edit", edit, token="wrong")[0] == 403
        assert request(server, "GET", "", Host="example.org")[0] == 403
        assert request(server, "POST", "api/edit", edit, Origin="http://example.org")[0] == 403
        assert request(server, "POST", "api/edit", edit, **{"Content-Type": "text/plain"})[0] == 415
        assert (project.root / "edits.jsonl").read_bytes() == before
        headers = request(server, "GET", "")[1]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
        with ReviewServer(project) as other:
            assert other.token != server.token


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "no JSON"),
        (b"[]", 400, "write {version"),
        ({"version": "1", "edit": {"op": "undo"}}, 400, "write {version"),
        ({"version": 1, "edit": {"op": "undo"}, "more": 1}, 400, "write {version"),
        ({"version": 1, "edit": {"op": "undo"}}, 400, "no edit to undo"),
        ({"version": 1, "edit": {"op": "accept", "track": 99}}, 400, "no track 99"),
        ({"version": 1, "edit": {"op": "accept", "track": "../x"}}, 400, "not of type int"),
        ({"version": 1, "edit": {"op": "layer", "name": "../x"}}, 400, "not by the page"),
        ({"version": 1, "edit": {"op": "classify-stuff", "frame": 0, "x": 160, "y": 0, "class_id": 2}}, 400, "outside"),
        ({"version": 1, "edit": {"op": "classify-stuff", "frame": 0, "x": 8, "y": 14, "class_id": 2}}, 400, "a track"),
        ({"version": 1, "edit": {"op": "classify-stuff", "frame": 0, "x": 0, "y": 0, "class_id": 10}}, 400, "already"),
        (b" " * 70000, 413, "at most"),
    ],
)
def test_wrong_requests_change_nothing(project, body, status, message):
    with served(project) as server:
        before = (project.root / "edits.jsonl").read_bytes()
        found = request(server, "POST", "api/edit", body)
        assert found[0] == status
        assert message in json.loads(found[2])["error"]
        assert (project.root / "edits.jsonl").read_bytes() == before


def test_a_port_that_is_taken(project):
    with ReviewServer(project) as server, pytest.raises(InputError, match="choose another with --port"):
        ReviewServer(project, server.server_port)


def place(browser, track_mask):
    """Where a track is on the screen, from its mask [H, W]."""
    y, x = (int(np.median(v)) for v in np.nonzero(track_mask))
    box = browser.evaluate("document.querySelector('#picture').getBoundingClientRect().toJSON()")
    scale = min(box["width"] / 160, box["height"] / 48)
    return (
        box["x"] + (box["width"] - 160 * scale) / 2 + (x + 0.5) * scale,
        box["y"] + (box["height"] - 48 * scale) / 2 + (y + 0.5) * scale,
    )


def test_a_person_reviews_in_a_browser(project, tmp_path):
    """Select by mouse, merge, split, classify tracks and stuff, delete, accept, undo and redo by keys and buttons."""
    files = {p: p.read_bytes() for p in project.root.rglob("*") if p.is_file()}
    instance = project.labels(project.state(), 0).instance
    semantic = project.labels(project.state(), 0).semantic
    cars = [int(n) for n in np.unique(instance[semantic == CAR_ID])]
    with served(project) as server, Chromium(tmp_path / "profile") as browser:
        log = lambda: [json.loads(line) for line in (project.root / "edits.jsonl").read_text().splitlines()[1:]]  # noqa: E731
        done = lambda count: browser.wait(f"document.body.dataset.version === '{count + 1}'")  # noqa: E731

        def click_track(number, modifiers=0):
            browser.click(*place(browser, instance == number), modifiers)

        browser.open(server.url)
        done(0)
        browser.key("Home")
        browser.wait("document.body.dataset.frame === '0'")
        click_track(cars[0])
        browser.wait(f"document.querySelector('#track').textContent === 'Track {cars[0]}'")
        click_track(cars[1], SHIFT)
        browser.wait(f"document.querySelector('#merge').textContent === 'Merge with {cars[1]}'")
        browser.key("m")
        done(1)
        assert log()[-1] == {"op": "merge", "into": cars[0], "track": cars[1]}
        browser.key("u")
        done(2)
        browser.click_on("#redo")
        done(3)
        browser.key("u")
        done(4)
        browser.key("ArrowRight")
        browser.wait("document.body.dataset.frame === '4'")
        instance = project.labels(project.state(), 4).instance
        click_track(cars[2])
        browser.wait(f"document.querySelector('#track').textContent === 'Track {cars[2]}'")
        browser.key("s")
        done(5)
        assert log()[-1] == {"op": "split", "track": cars[2], "frame": 4}
        browser.evaluate("document.querySelector('#class').value = '15';"
                         "document.querySelector('#class').dispatchEvent(new Event('change'))")  # fmt: skip
        done(6)
        assert log()[-1] == {"op": "classify", "track": cars[2], "class_id": 15}
        browser.click_on("#delete")
        done(7)
        browser.key("f")
        done(8)
        assert log()[-1] == {"op": "confirm", "frame": 4, "confirmed": True}
        # Regions of stuff: the sky becomes road, unlabelled pixels too, then each is undone.
        labels = project.labels(project.state(), 4)
        for mask, name, edits in ((labels.semantic == SKY_ID, "sky", 1), (labels.semantic == VOID_ID, "void", 2)):
            browser.click(*place(browser, mask))
            browser.wait(f"document.querySelector('#track').textContent === 'Region of {name}'")
            browser.key("c")
            browser.evaluate(f"document.querySelector('#class').value = '{ROAD_ID}';"
                             "document.querySelector('#class').dispatchEvent(new Event('change'))")  # fmt: skip
            done(8 + edits)
            assert log()[-1].items() >= {"op": "classify-stuff", "frame": 4, "class_id": ROAD_ID}.items()
            assert (project.labels(project.state(), 4).semantic[mask] == ROAD_ID).all()
            browser.wait("document.querySelector('#track').textContent === 'Region of road'")
        browser.key("u")
        browser.key("u")
        done(12)
        assert np.array_equal(project.labels(project.state(), 4).semantic, labels.semantic)
        # The list: accept all, one after the other.
        count = len(Project(project.root).state().tracks)
        for accepted in range(count):
            browser.key("n") if accepted == 0 else None
            browser.evaluate("select(page.state.tracks.find(t => !t.accepted).id, true)")
            browser.key("a")
            done(13 + accepted)
        assert browser.text("#progress").startswith(f"{count} of {count} tracks accepted")
        # A key that is not possible is an answer, not an error of the page.
        browser.evaluate("page.frame = 0; undefined")
        browser.key("s")
        browser.wait("document.querySelector('#message').textContent !== ''")
        assert "split" in browser.text("#message") or "no segment" in browser.text("#message")
        assert all(url.startswith((server.url, "about:", f"http://127.0.0.1:{server.server_port}/favicon")) for url in
                   browser.requests)  # fmt: skip
        assert [e for e in browser.errors if "400" not in e and "favicon" not in e] == []
        browser.screenshot(tmp_path / "page.png")
    changed = [p for p in project.root.rglob("*") if p.is_file() and files.get(p) != p.read_bytes()]
    assert changed == [project.root / "edits.jsonl"]
    reviewed = Project(project.root).state()
    assert all(track.accepted for track in reviewed.tracks.values())
    assert reviewed.confirmed == {4}


def test_the_command_prints_the_address_and_ends_by_an_interrupt(project):
    command = [sys.executable, "-m", "vps_ros.commands.main", "label", "review", str(project.root)]
    # A shell starts processes in the background with SIGINT ignored, and they pass that on.
    default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=default) as process:
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]{20,})/", line)
        assert url, line
        connection = http.client.HTTPConnection("127.0.0.1", int(url[1]), timeout=30)
        connection.request("GET", f"/{url[2]}/")
        page = connection.getresponse().read()
        assert page == (Path(__file__).parents[2] / "vps_ros/labelling/page/review.html").read_bytes()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
