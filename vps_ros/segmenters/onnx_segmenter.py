"""A segmenter that runs a model of the ONNX contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from vps_ros.clips import ClipSpec
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Segmentation
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.clip_kernels import fuse_kernels
from vps_ros.segmenters.model_card import Thresholds
from vps_ros.segmenters.preprocess import Fit, fit, prepare
from vps_ros.segmenters.segment_map import from_segment_map
from vps_ros.segmenters.segmenter import SegmenterParameters
from vps_ros.segmenters.session import PER_FRAME, Session

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
        self.clip = chosen_clip(self.card.clip, parameters, str(path), self._session.fusible)
        self._fuses = self.card.clip is None and self.clip.length > 1
        self.batched = self._session.batched and not self._fuses
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
        self._least_cosine = parameters.clip_similarity

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

        A network for clips gets copies of the image. Raises DroppedFrame when the network returns NaN or infinity;
        recurrent state is then reset.
        """
        if self.clip.length > 1:
            return dataclasses.replace(self.segment_clip([image] * self.clip.length)[-1], tubes=None)
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
        segmentation = self._segments(outputs, where)
        self._measure(began, prepared, ran)
        return segmentation

    def segment_clip(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """The segments of each image of a clip; see ClipSegmenter. Raises InputError when their sizes differ."""
        began = perf_counter()
        if len(images) != self.clip.length:
            raise InputError(f"{self._session.path}: {len(images)} images, its clips have {self.clip.length} frames")
        sizes = [image.shape[:2] for image in images]
        for number, size in enumerate(sizes):
            if size != sizes[0]:
                first, other = ("{1}x{0}".format(*s) for s in (sizes[0], size))
                raise InputError(
                    f"{self._session.path}: image {number + 1} of a clip is {other}, and the first is {first}; "
                    "give images of one size"
                )
        where = fit(self.card.input, *sizes[0])
        ready = [prepare(image, where, self.card.input.padding) for image in images]
        prepared = perf_counter()
        if self._fuses:
            frames = self._fused(images, ready)
        else:
            outputs = self._session.run(np.concatenate(ready))
            frames = [
                {name: v[t : t + 1] if name in PER_FRAME else v for name, v in outputs.items()}
                for t in range(len(images))
            ]
        ran = perf_counter()
        found = [self._segments(frame, where) for frame in frames]
        self._measure(began, prepared, ran)
        return found

    def _fused(
        self, images: Sequence[NDArray[np.uint8]], ready: Sequence[NDArray[np.uint8]]
    ) -> list[dict[str, NDArray]]:
        """Outputs of the network for each image, with kernels that are fused over the clip (Clip-PanoFCN)."""
        known: dict[int, dict[str, NDArray]] = {}
        for image, prepared in zip(images, ready, strict=True):
            # The last clip of a sequence is filled with copies of its last frame.
            if id(image) not in known:
                known[id(image)] = {name: value.copy() for name, value in self._session.run(prepared).items()}
        frames = [known[id(image)] for image in images]
        queries = fuse_kernels(frames, self.taxonomy.isthing, self._least_cosine)
        return [{**queries, "mask_features": frame["mask_features"]} for frame in frames]

    def _segments(self, outputs: Mapping[str, NDArray], where: Fit) -> Segmentation:
        """The segments of one frame, with the outputs for this frame."""
        tubes = self.clip.length > 1
        try:
            if self._session.in_graph:
                found = from_segment_map(outputs, where, self.taxonomy, self._made_for, tubes)
            else:
                found = postprocess.from_logits(
                    outputs, where, self.taxonomy, self.thresholds, self.card.mask_activation, tubes
                )
        except DroppedFrame as error:
            self.reset()
            raise DroppedFrame(f"{self._session.path.name}: {error}") from None
        if not self.thresholds.components:
            return found
        return postprocess.split_components(found, self.thresholds.thing_area * where.pixels_per_input_pixel)

    def _measure(self, began: float, prepared: float, ran: float) -> None:
        self.milliseconds = {
            "preprocess": (prepared - began) * 1e3,
            "network": (ran - prepared) * 1e3,
            "postprocess": (perf_counter() - ran) * 1e3,
        }


def chosen_clip(of_model: ClipSpec | None, parameters: SegmenterParameters, where: str, fusible: bool) -> ClipSpec:
    """The clips of a model of the file `where`; raises InputError when the parameters ask for others than it can take.

    Args:
        fusible: a model of single images can take clips of any length, since its kernels can be fused.
    """
    length, overlap = parameters.clip_length, parameters.clip_overlap
    spec = of_model or ClipSpec()
    if fusible and of_model is None and length > 1:
        spec = ClipSpec(length)
    if length not in (0, spec.length):
        has = "single images" if spec.length == 1 else f"clips of {spec.length} frames"
        raise InputError(
            f"clip_length {length}: {where} takes {has}; export a model of a kind with clips (kmax, video-knet, "
            f"streets) with `vps-ros export --clip {length}`, or one with kernels (panoptic-fcn, and streets with heat "
            "maps, as the shipped models) with --kernels, or leave clip_length out"
        )
    try:
        return spec if overlap < 0 else ClipSpec(spec.length, overlap)
    except InputError:
        raise InputError(
            f"clip_overlap {overlap}: {where} takes clips of {spec.length} frame{'s' * (spec.length > 1)}; "
            f"give at most {spec.length - 1}"
        ) from None


def merge_thresholds(of_model: Thresholds, parameters: SegmenterParameters) -> Thresholds:
    """The model's thresholds, replaced by those that are set in the parameters."""
    changed = {
        field: getattr(parameters, name) for name, field in _THRESHOLDS.items() if getattr(parameters, name) >= 0
    }
    if parameters.postprocess != "model":
        changed["mode"] = parameters.postprocess
    return dataclasses.replace(of_model, **changed)
