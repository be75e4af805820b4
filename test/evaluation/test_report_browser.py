"""The report in Chromium: on a phone and on a wide screen, light and dark; links to moments of a video; changes."""

import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from support.chromium import Chromium
from support.labelled_bags import scene
from vps_ros.drawing.video import VideoWriter
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.report import Entry, Picture, moment, write_html
from vps_ros.taxonomy import CITYSCAPES

FRAMES = 30
SIZES = {"phone": (390, 844), "wide": (1920, 1080)}


def entry(name, track):
    """A drive past a car, whose track in frame i is track(i); 0 for none."""
    evaluator, curve = Evaluator(CITYSCAPES), []
    for index in range(FRAMES):
        gt = scene(index % 20)
        semantic, instance = scene(index % 20, track=max(track(index), 1))
        if not track(index):
            semantic[instance > 0], instance[instance > 0] = 0, 0
        curve.append(evaluator.update("a drive through the old town", *gt, semantic, instance).pq)
    return Entry(name, evaluator.result(), {"a drive through the old town": curve})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with VideoWriter(folder / "over lay.mp4", fps=10) as video:
        for index in range(FRAMES):
            video.write(np.full((96, 256, 3), 8 * index, np.uint8))
    photo = np.zeros((375, 1242, 3), np.uint8)
    pictures = [Picture({"camera": photo, "ground truth": photo}, "the worst", moment("over lay.mp4", 1.7))]
    steady, switching = entry("steady", lambda i: 1), entry("switching", lambda i: 1 + i // 10)
    write_html(folder / "one.html", [steady], pictures, "A drive")
    write_html(folder / "two.html", [steady, switching], pictures, "Two runs")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_page_fits_the_screen(browser, folder, name, size):
    browser.open((folder / f"{name}.html").as_uri(), *size)
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    # What is wider than the screen scrolls in a box of its own.
    beyond = """[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll,svg') &&
        e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.evaluate(beyond) == []
    assert browser.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 14
    assert browser.evaluate("[...document.images].every(i => i.getBoundingClientRect().width > innerWidth / 4)")


def test_colours_follow_the_scheme_of_the_reader(browser, folder):
    brightness = """(() => {const c = s => getComputedStyle(document.body)[s].match(/\\d+/g).slice(0, 3).map(Number);
        return [c('color'), c('backgroundColor')].map(v => v.reduce((a, b) => a + b) / 3)})()"""
    for dark in (False, True):
        browser.open((folder / "one.html").as_uri(), *SIZES["wide"], dark=dark)
        text, page = browser.evaluate(brightness)
        assert abs(text - page) > 150
        assert (page < text) == dark


def test_a_worst_frame_links_to_its_moment_in_the_video(browser, folder):
    """Over HTTP, as a report on a server: files of their own origin may not be opened from each other."""
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{server.server_port}/one.html", *SIZES["phone"])
        browser.evaluate("document.querySelector('.pictures a').click()")
        browser.wait("document.querySelector('video')?.readyState >= 2")
        assert browser.evaluate("location.hash") == "#t=1.700"
        assert browser.evaluate("document.querySelector('video').currentTime") >= 1.6
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """With byte ranges; without them Chromium goes to a moment only where the video has arrived by then."""

    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return super().do_GET()
        data = Path(self.translate_path(self.path)).read_bytes()
        first, end = int(asked[1]), int(asked[2] or len(data) - 1) + 1
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(self.path))
        self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - first))
        self.end_headers()
        return self.wfile.write(data[first:end])

    def log_message(self, *words):
        """Nothing."""


def test_two_runs_show_what_changed(browser, folder):
    browser.open((folder / "two.html").as_uri(), *SIZES["wide"])
    row = "[...document.querySelectorAll('#changes tbody tr')].map(r => [...r.children].map(c => c.innerText.trim()))"
    ((thing, _, change, switches, missed),) = browser.evaluate(row)
    assert (thing, change, switches, missed) == ("car 1", "more switches", "0 → 2", "0")
    bars = "[...document.querySelectorAll('#changes .timeline div')].map(d => d.querySelectorAll('i').length)"
    assert browser.evaluate(bars) == [1, 3]
