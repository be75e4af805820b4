"""Writes docs/images/real.jpg, what the shipped model sees on a real clip: `python docs/make_real.py`.

The clip (see benchmarks/real_frames.py) may not be passed on: the picture shows results on black, without the images.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.real_frames import CLIP  # noqa: E402
from vps_ros import Frame, OnlinePanoptic  # noqa: E402
from vps_ros.drawing.overlay import Overlay  # noqa: E402
from vps_ros.drawing.video import contact_sheet  # noqa: E402

SHOWN = (5, 15, 25, 35, 40, 44)
PERIOD = 100_000_000


def main() -> None:
    folder = Path(os.environ.get("VPS_ROS_REALDATA", ROOT.parent / "shared" / "realdata")) / CLIP / "image_02"
    pipeline = OnlinePanoptic()
    draw = Overlay(pipeline.taxonomy)
    pictures, seen = [], {}
    for i, path in enumerate(sorted(folder.glob("*.jpg"))):
        frame = Frame(cv2.imread(str(path))[..., ::-1].copy(), i * PERIOD)
        result = pipeline.step(frame)
        for track in result.tracks:
            seen[track.track_id] = track.hits
        if i in SHOWN:
            pictures.append(draw(np.zeros_like(frame.image), result))
    sheet = contact_sheet(pictures, 2)[..., ::-1]
    cv2.imwrite(str(ROOT / "docs/images/real.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 80])
    hits = sorted(seen.values())
    print(f"{len(hits)} tracks, sightings: median {hits[len(hits) // 2]}, longest {hits[-1]}")


if __name__ == "__main__":
    main()
