"""Contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vps_ros.drawing.video import letterbox
from vps_ros.errors import InputError


def contact_sheet(images: Sequence[NDArray[np.uint8]], columns: int, gap: int = 4) -> NDArray[np.uint8]:
    """The images in rows of `columns`, RGB uint8, `gap` white pixels apart; all take the size of the first.

    Raises InputError when there is no image or `columns` is not positive.
    """
    if not len(images) or columns < 1:
        raise InputError("a contact sheet needs at least one image and one column")
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        same = image.shape[:2] == (height, width)
        sheet[top : top + height, left : left + width] = image if same else letterbox(image, height, width)
    return sheet
