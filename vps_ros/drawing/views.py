"""What a viewer shows of a frame, independent of the viewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Frame, PanopticFrame
from vps_ros.taxonomy import Taxonomy

WRONG_CLASS, MISSED, FALSE, SWITCHED = 1, 2, 3, 4
MISTAKES = {
    WRONG_CLASS: ("wrong class", (255, 170, 0)),
    MISSED: ("missed object", (230, 0, 70)),
    FALSE: ("false object", (160, 60, 255)),
    SWITCHED: ("another track than before", (0, 210, 255)),
}
"""Value in `Truth.errors` -> name and colour; 0 where the prediction is right or nothing is labelled."""


@dataclass(frozen=True)
class Truth:
    """The ground truth of a frame.

    Attributes:
        semantic: uint8 [H, W] of class ids, 255 for void.
        instance: integer [H, W], 0 for none.
        taxonomy: the classes of `semantic`.
        errors: uint8 [H, W], keys of MISTAKES where the prediction is wrong; None without a prediction.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer]
    taxonomy: Taxonomy
    errors: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class View:
    """What is shown of one frame of one camera.

    Attributes:
        stamp: nanoseconds.
        image: uint8 RGB [H, W, 3]; None if only the result is known.
        result: its `taxonomy` names the classes; None if only the image is known.
        truth: None without ground truth.
        drops: reason -> number of frames that were lost for it so far.
        camera: its name; "" for a single camera.
        latency: name -> milliseconds, beside the times in `result`.
    """

    stamp: int
    image: NDArray[np.uint8] | None
    result: PanopticFrame | None
    truth: Truth | None = None
    drops: Mapping[str, int] = field(default_factory=dict)
    camera: str = ""
    latency: Mapping[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Height and width; None if there is neither an image nor a result."""
        if self.image is not None:
            return self.image.shape[:2]
        return None if self.result is None else self.result.map.shape

    @classmethod
    def of(cls, frame: Frame, result: PanopticFrame) -> View:
        """The frame of a single camera and its result."""
        return cls(frame.stamp, frame.image, result)
