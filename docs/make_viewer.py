"""Writes docs/images/viewer.jpg, the web viewer with a demo.

`vps-ros demo --frames 60`, then `python docs/make_viewer.py demo`. Needs Chromium, and the extras `view` and `test`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from support.chromium import Chromium  # noqa: E402
from vps_ros.commands.main import main as vps_ros  # noqa: E402
from vps_ros.drawing.viewer import Target, open_recording  # noqa: E402

SIZE = (1600, 900)
SECONDS = 60
"""Until the viewer, without a GPU, has loaded everything."""


def main(demo: str) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        recording, picture = folder / "demo.rrd", folder / "viewer.png"
        assert vps_ros(["view", demo, "--save", str(recording)]) == 0
        with open_recording(str(recording), Target(web=True)) as viewer, Chromium(folder / "profile") as page:
            page.open(viewer.page, *SIZE)
            time.sleep(SECONDS)
            page.screenshot(picture)
        image = cv2.imread(str(picture))
        cv2.imwrite(str(ROOT / "docs/images/viewer.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main(*sys.argv[1:])
