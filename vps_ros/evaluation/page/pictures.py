"""Frames as pictures, embedded in the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.page.entry import Picture


def pictures(shown: Iterable[Picture]) -> str:
    return f"<div class=pictures>{''.join(map(_figure, shown))}</div>"


def _figure(picture: Picture) -> str:
    panels = "".join(
        f"<div class=panel><span>{escape(name)}</span>"
        f"<img src='{_data_uri(image)}' alt='{escape(name)}: {escape(picture.caption)}' loading=lazy></div>"
        for name, image in picture.panels.items()
    )
    return f"<figure><figcaption>{escape(picture.caption)}</figcaption>{panels}</figure>"


def _data_uri(image: NDArray[np.uint8]) -> str:
    """The image as PNG or JPEG, whichever is smaller: painted maps are best as the one, photographs as the other."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    png = cv2.imencode(".png", bgr)[1].tobytes()
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    kind, data = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
