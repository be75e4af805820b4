"""Chromium without a window, driven over its DevTools protocol; tests that need it skip where it is missing."""

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from itertools import count
from urllib.request import urlopen

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]


class Page:
    """One tab."""

    def __init__(self, socket):
        self._socket, self._numbers = socket, count(1)

    def call(self, method, **parameters):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(timeout=60))).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url, width, height, dark=False):
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"not within {seconds} s: {condition}"
            time.sleep(0.1)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def chromium(profile):
    """A Page; `profile` is an empty folder for the browser."""
    client = pytest.importorskip("websockets.sync.client", reason="needs the package websockets")
    if PROGRAM is None:
        pytest.skip("needs chromium")
    # Port 0: Chromium writes the port that it chose into its profile.
    command = [PROGRAM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            file, end = profile / "DevToolsActivePort", time.monotonic() + 60
            while not (file.exists() and file.read_text().count("\n")):
                assert browser.poll() is None and time.monotonic() < end, "chromium does not start"
                time.sleep(0.05)
            with urlopen(f"http://127.0.0.1:{file.read_text().split()[0]}/json/list", timeout=30) as answer:
                tab = next(one for one in json.load(answer) if one["type"] == "page")
            with client.connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
                yield Page(socket)
        finally:
            browser.terminate()
