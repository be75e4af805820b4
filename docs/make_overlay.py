"""Writes docs/images/overlay.jpg, frames of a held-out drive as the demo shows them: `python docs/make_overlay.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vps_ros import OnlinePanoptic  # noqa: E402
from vps_ros.commands.demo import SCENARIO, SEED, SIZE  # noqa: E402
from vps_ros.datasets.streets import drive  # noqa: E402
from vps_ros.drawing.overlay import Overlay  # noqa: E402
from vps_ros.drawing.video import contact_sheet  # noqa: E402

SHOWN = (10, 20, 30, 40)


def main() -> None:
    pipeline = OnlinePanoptic()
    draw = Overlay(pipeline.taxonomy, min_height=360)
    pictures = []
    for i, street in enumerate(drive(SCENARIO, seed=SEED, frames=SHOWN[-1] + 1, size=SIZE)):
        result = pipeline.step(street.frame)
        if i in SHOWN:
            pictures.append(draw(street.frame.image, result))
    sheet = contact_sheet(pictures, columns=2)
    target = ROOT / "docs" / "images" / "overlay.jpg"
    cv2.imwrite(str(target), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main()
