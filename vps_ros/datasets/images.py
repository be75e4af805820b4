"""Camera images beside labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError

_ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8": b"\xff\xd9"}
"""How files of PNG and JPEG begin and end."""
_TRAILING = 65536
"""Some cameras write things of their own after the end."""


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB as the pixels lie in the file: labels know nothing of EXIF's orientation.

    Raises InputError when the file is absent or cannot be decoded.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; add the image of these labels") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); copy it again") from None
    # OpenCV fills up what is cut off.
    raw = data.tobytes()
    if any(raw.startswith(head) and tail not in raw[-_TRAILING:] for head, tail in _ENDS.items()):
        raise InputError(f"{path}: is cut off; copy it again")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{path}: is not an image that can be decoded; copy it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
