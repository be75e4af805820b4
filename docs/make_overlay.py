"""Writes frames of a held-out drive as the demo shows them: `python docs/make_overlay.py`.

docs/images/overlay.jpg is a sheet of frames, docs/images/overlay.webp the animation at the top of the README.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vps_ros import OnlinePanoptic  # noqa: E402
from vps_ros.commands.demo import SCENARIO, SEED, SIZE  # noqa: E402
from vps_ros.datasets.streets import drive  # noqa: E402
from vps_ros.drawing.overlay import Overlay  # noqa: E402
from vps_ros.drawing.video import contact_sheet  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SHOWN = (10, 20, 30, 40)
FRAMES, HZ = 60, 10
ANIMATION = (960, 288)
QUALITY = 55


def main() -> None:
    pipeline = OnlinePanoptic()
    draw = Overlay(pipeline.taxonomy, min_height=360, trails=True, legend=True)
    frames = drive(SCENARIO, seed=SEED, frames=FRAMES, size=SIZE)
    pictures = [draw(street.frame.image, pipeline.step(street.frame)) for street in frames]
    sheet = contact_sheet([pictures[i] for i in SHOWN], columns=2)
    cv2.imwrite(str(IMAGES / "overlay.jpg"), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    animate(pictures)


def animate(pictures: list) -> None:
    with av.open(str(IMAGES / "overlay.webp"), "w", options={"loop": "0"}) as container:
        stream = container.add_stream("libwebp_anim", rate=Fraction(HZ))
        stream.width, stream.height = ANIMATION
        stream.pix_fmt = "yuv420p"
        stream.options = {"quality": str(QUALITY), "compression_level": "6"}
        for picture in pictures:
            small = cv2.resize(picture, ANIMATION, interpolation=cv2.INTER_AREA)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(small, format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
