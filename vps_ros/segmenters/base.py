"""What the pipeline asks of whatever turns an image into segments."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Segmentation
from vps_ros.segmenters.parameters import SegmenterParameters
from vps_ros.taxonomy import Taxonomy


@runtime_checkable
class Segmenter(Protocol):
    """Image to segments without identity.

    Attributes:
        name: of the model, for people.
        providers: ONNX Runtime execution providers in use, in order, by the names of SegmenterParameters.providers.
        milliseconds: time of the latest call by part: preprocess, network, postprocess.
    """

    name: str
    providers: tuple[str, ...]
    milliseconds: dict[str, float]

    @property
    def taxonomy(self) -> Taxonomy:
        """The model's classes."""
        ...

    @property
    def recurrent(self) -> bool:
        """Whether it keeps state from frame to frame, so that each camera needs one of its own."""
        ...

    def __call__(self, image: NDArray[np.uint8]) -> Segmentation:
        """Segments of uint8 [H, W, 3] RGB. Raises DroppedFrame when the network's output cannot be used."""
        ...

    def reset(self) -> None:
        """Forgets earlier frames: recurrent state goes back to zeros."""
        ...

    def configure(self, parameters: SegmenterParameters) -> None:
        """Uses the thresholds of `parameters` from the next image on."""
        ...

    def interrupt(self) -> None:
        """Makes a call that is under way in another thread fail soon; later ones are not affected."""
        ...
