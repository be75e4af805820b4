"""A segmenter that runs a model of the ONNX contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Segmentation
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.model_card import Thresholds
from vps_ros.segmenters.preprocess import fit, prepare
from vps_ros.segmenters.segmenter import SegmenterParameters
from vps_ros.segmenters.session import Session

_THRESHOLDS = {
    "thing_threshold": "thing",
    "stuff_threshold": "stuff",
    "mask_threshold": "mask",
    "overlap_threshold": "overlap",
    "thing_area": "thing_area",
    "stuff_area": "stuff_area",
}
"""Parameter -> the field of Thresholds that it replaces where it is not negative."""


class OnnxSegmenter:
    """Segmenter that runs an ONNX file.

    Raises InputError when the file is not a model of the contract, or a provider cannot be used.
    """

    def __init__(self, path: Path, parameters: SegmenterParameters) -> None:
        self._session = Session(path, parameters)
        self.card = self._session.card
        self.name, self.taxonomy = self.card.name, self.card.taxonomy
        self.providers, self.recurrent = self._session.providers, self._session.recurrent
        self.batched = self._session.batched
        self.milliseconds: dict[str, float] = {}
        self._ahead: dict[int, tuple[NDArray[np.uint8], dict[str, NDArray]]] = {}
        self._made_for = None if self.card.camera is None else fit(self.card.input, *self.card.camera)
        self.configure(parameters)

    def configure(self, parameters: SegmenterParameters) -> None:
        """Uses the thresholds of `parameters` from the next image on.

        Raises InputError when they change a value that is fixed inside the model's graph.
        """
        chosen = merge_thresholds(self.card.thresholds, parameters)
        if self._session.in_graph and chosen != self.card.thresholds:
            fields = {**_THRESHOLDS, "postprocess": "mode"}
            changed = [name for name, f in fields.items() if getattr(chosen, f) != getattr(self.card.thresholds, f)]
            raise InputError(
                f"{', '.join(changed)}: fixed inside the graph of {self._session.path}; leave it at the model's, "
                "or export the model with --postprocess host"
            )
        self.thresholds = chosen

    def reset(self) -> None:
        """Sets recurrent state to zeros."""
        self._session.reset()

    def interrupt(self) -> None:
        """Makes a call that is running in another thread fail soon; later calls are not affected."""
        self._session.interrupt()

    def run_ahead(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Runs the network once for images that the next calls get, in any order; see BatchSegmenter."""
        spec = self.card.input
        ready = [prepare(image, fit(spec, *image.shape[:2]), spec.padding) for image in images]
        outputs = self._session.run(np.concatenate(ready))
        self._ahead = {
            id(image): (image, {name: value[min(i, len(value) - 1)][None] for name, value in outputs.items()})
            for i, image in enumerate(images)
        }

    def __call__(self, image: NDArray[np.uint8]) -> Segmentation:
        """Segments of uint8 [H, W, 3] RGB at the image's size.

        Raises DroppedFrame when the network returns NaN or infinity; recurrent state is then reset.
        """
        began = perf_counter()
        where = fit(self.card.input, *image.shape[:2])
        _, outputs = self._ahead.pop(id(image), (None, None))
        if outputs is None:
            self._ahead = {}
            ready = prepare(image, where, self.card.input.padding)
        prepared = perf_counter()
        if outputs is None:
            outputs = self._session.run(ready)
        ran = perf_counter()
        try:
            if self._session.in_graph:
                segmentation = postprocess.from_segment_map(outputs, where, self.taxonomy, self._made_for)
            else:
                segmentation = postprocess.from_logits(
                    outputs, where, self.taxonomy, self.thresholds, self.card.mask_activation
                )
        except DroppedFrame as error:
            self.reset()
            raise DroppedFrame(f"{self._session.path.name}: {error}") from None
        if self.thresholds.components:
            least = self.thresholds.thing_area * where.pixels_per_input_pixel
            segmentation = postprocess.split_components(segmentation, least)
        done = perf_counter()
        self.milliseconds = {
            "preprocess": (prepared - began) * 1e3,
            "network": (ran - prepared) * 1e3,
            "postprocess": (done - ran) * 1e3,
        }
        return segmentation


def merge_thresholds(of_model: Thresholds, parameters: SegmenterParameters) -> Thresholds:
    """The model's thresholds, replaced by those that are set in the parameters."""
    changed = {
        field: getattr(parameters, name) for name, field in _THRESHOLDS.items() if getattr(parameters, name) >= 0
    }
    if parameters.postprocess != "model":
        changed["mode"] = parameters.postprocess
    return dataclasses.replace(of_model, **changed)
