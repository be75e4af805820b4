"""Writes docs/images/streets.jpg, the contact sheet of the generated streets: `python docs/make_streets.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vps_ros.datasets.streets import SCENARIOS, TRAINING, StreetFrame, drive  # noqa: E402
from vps_ros.taxonomy import CITYSCAPES  # noqa: E402

SIZE, SEEDS, FRAME = (544, 164), (1, 7), 4


def main() -> None:
    rows = []
    for name in (*SCENARIOS, *TRAINING):
        shots = [frame(name, seed) for seed in SEEDS]
        rows.append(np.hstack([labelled(s.frame.image, name) for s in shots]))
    shot = frame("crowd", 3)
    rows.append(np.hstack([labelled(shot.frame.image, "picture"), labelled(classes(shot), "classes, objects")]))
    rows.append(np.hstack([labelled(depth(shot), "depth"), labelled(flow(shot), "flow to the previous frame")]))
    target = ROOT / "docs" / "images" / "streets.jpg"
    target.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(target), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def frame(name: str, seed: int) -> StreetFrame:
    *_, last = drive(name, seed, FRAME, SIZE)
    return last


def classes(shot: StreetFrame) -> NDArray[np.uint8]:
    """Class colours, with a white line around each object."""
    palette = np.array([c.color for c in CITYSCAPES.classes], np.uint8)
    out = palette[shot.semantic]
    number = shot.instance.astype(np.float32)
    edge = (cv2.dilate(number, np.ones((3, 3))) != number) & (shot.instance > 0)
    out[edge] = 255
    return out


def depth(shot: StreetFrame) -> NDArray[np.uint8]:
    near = np.clip(255 * 4 / np.maximum(shot.depth, 4), 0, 255).astype(np.uint8)
    return cv2.applyColorMap(near, cv2.COLORMAP_TURBO)[..., ::-1]


def flow(shot: StreetFrame) -> NDArray[np.uint8]:
    x, y = np.nan_to_num(shot.flow[..., 0]), np.nan_to_num(shot.flow[..., 1])
    hue = (np.degrees(np.arctan2(y, x)) % 360 / 2).astype(np.uint8)
    size = np.clip(np.hypot(x, y) * 30, 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.merge([hue, size, np.full_like(hue, 255)]), cv2.COLOR_HSV2RGB)


def labelled(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    out = image.copy()
    cv2.putText(out, text, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(out, text, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return out


if __name__ == "__main__":
    main()
