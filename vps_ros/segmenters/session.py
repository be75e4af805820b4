"""A loaded model of the ONNX contract: checked on loading, and run on fixed buffers."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.segmenters.model_card import REMEDY, read_card
from vps_ros.segmenters.runtime import (
    available_providers,
    elapsed_time_shown,
    engine_exists,
    engine_folder,
    explain_error,
    first_line,
    open_session,
    operators_on_cpu,
    pin,
    providers_in_use,
    this_machine,
    unpin,
)
from vps_ros.segmenters.segmenter import SegmenterParameters

log = logging.getLogger(__name__)

State = tuple[tuple[int, ...], np.dtype]
"""Shape and type of a state tensor."""
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_TYPES = {"image": ("tensor(uint8)",), "segment_map": ("tensor(uint8)",), "slot_class": ("tensor(int32)",)}
"""Types of tensors that are not of _FLOATS."""
_LOGITS = ("class_logits", "mask_logits")
_FACTORS = ("class_logits", "mask_kernels", "mask_features")
"""Instead of _LOGITS."""
_IN_GRAPH = ("segment_map", "slot_class", "slot_score")
_OPTIONAL = ("query_embeddings", "query_boxes")
PER_FRAME = ("mask_logits", "mask_features", "segment_map", "query_boxes")
"""Outputs of a network for clips whose first dimension is that of the frames; that of the others is 1."""


class Session:
    """A loaded model whose tensors are checked against the ONNX contract (docs/models.md).

    Attributes:
        path: of the file.
        card: its metadata.
        providers: in use, in order, by the names of SegmenterParameters.providers.
        in_graph: whether post-processing is inside the graph.
        frames: that the network segments together; 1 without clips.
        fusible: whether queries of several images can be fused: they have kernels, and no boxes or recurrent state.

    Raises InputError when the file is not a model of the contract, or a requested provider is not in use.
    """

    def __init__(self, path: Path, parameters: SegmenterParameters) -> None:
        self.path = path
        wanted = available_providers(parameters.providers, parameters.allow_fallback)
        with _engine_folder(path, wanted, parameters.tensorrt_fp16) as engines:
            self._session = open_session(path, wanted, parameters.threads, engines, parameters.tensorrt_fp16)
            self.providers = providers_in_use(self._session, wanted, parameters.allow_fallback)
            self.card = read_card(self._session, str(path))
            self.frames = 1 if self.card.clip is None else self.card.clip.length
            self.in_graph = self._check_names()
            self._states = self._check_states()
            self.fusible = "mask_kernels" in self._outputs and "query_boxes" not in self._outputs and not self._states
            self._running = ort.RunOptions()
            self._bindings: dict[int, Binding] = {}
            self._warm_up(self.frames)
        if self._on_gpu and (left := operators_on_cpu(self._session)):
            log.warning(
                "%s: %s lacks the operators %s; the CPU runs them",
                path,
                " and ".join(self.providers[:-1]),
                ", ".join(left),
            )

    @property
    def recurrent(self) -> bool:
        return bool(self._states)

    @property
    def batched(self) -> bool:
        """Whether it runs several images at once: the first dimension of the input has a name instead of a size."""
        return self.frames == 1 and not self._states and not isinstance(self._session.get_inputs()[0].shape[0], int)

    def reset(self) -> None:
        """Sets recurrent state to zeros."""
        for binding in self._bindings.values():
            binding.reset()

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray]:
        """Outputs by name for uint8 [B, H, W, 3], valid until the next call. Recurrent state is kept between calls.

        B is `frames` unless `batched`. An output of one row is the same for all images. Raises InputError when there is
        not enough memory.
        """
        self._running = options = ort.RunOptions()
        try:
            if len(images) not in self._bindings:
                self._warm_up(len(images))
            return self._bindings[len(images)].run(images, options)
        except Exception as error:
            if why := explain_error(error, self.providers):
                raise InputError(f"{self.path}: {why}") from None
            raise

    def interrupt(self) -> None:
        """Makes a run in another thread fail at its next node; later runs are not affected."""
        self._running.terminate = True

    @property
    def _on_gpu(self) -> bool:
        return self.providers[0] != "cpu"

    def _refusal(self, why: str) -> InputError:
        return InputError(f"{self.path}: {why}; {REMEDY}")

    def _check_names(self) -> bool:
        """Checks names and types of inputs and outputs; returns whether post-processing is in the graph."""
        inputs = {i.name: i for i in self._session.get_inputs()}
        outputs = {o.name: o for o in self._session.get_outputs()}
        self._check_types(inputs, ("image",), "input")
        spec = self.card.input
        self._check_shape("input 'image'", inputs["image"].shape, (self.frames, spec.height, spec.width, 3))
        if unknown := [name for name in inputs if name != "image" and not name.startswith("state_")]:
            raise self._refusal(f"input {unknown[0]!r} is none of image, state_*")
        in_graph = "segment_map" in outputs
        factors = [name for name in ("mask_kernels", "mask_features") if name in outputs]
        if factors and "mask_logits" in outputs:
            raise self._refusal(f"has the outputs 'mask_logits' and {factors[0]!r}, of which one is enough")
        if "query_boxes" in outputs and (in_graph or self.card.mask_activation != "sigmoid"):
            raise self._refusal("output 'query_boxes' needs mask_activation 'sigmoid', and no segment_map")
        needed = _IN_GRAPH if in_graph else _FACTORS if factors else _LOGITS
        self._outputs = (*needed, *(name for name in _OPTIONAL if name in outputs))
        self._check_types(outputs, self._outputs, "output")
        return in_graph

    def _check_types(self, there: Mapping, names: Sequence[str], kind: str) -> None:
        for name in names:
            if name not in there:
                raise self._refusal(f"lacks the {kind} {name!r} (it has {', '.join(sorted(there)) or 'none'})")
            allowed = _TYPES.get(name, _FLOATS)
            if there[name].type not in allowed:
                raise self._refusal(f"{kind} {name!r} is {there[name].type}, not {allowed[0]}")

    def _check_shape(self, what: str, shape, expected: Sequence[int | None]) -> None:
        """Raises InputError where two shapes differ; names of dimensions, and None in `expected`, equal any number."""
        same = all(not isinstance(n, int) or want in (None, n) for n, want in zip(shape, expected, strict=False))
        if len(shape) != len(expected) or not same:
            wanted = ", ".join("any" if n is None else str(n) for n in expected)
            raise self._refusal(f"{what} has shape {list(shape)}, not [{wanted}]")

    def _check_states(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        outputs = {o.name: o for o in self._session.get_outputs()}
        inputs = {i.name: i for i in self._session.get_inputs() if i.name.startswith("state_")}
        for name in outputs:
            if name.startswith("next_state_") and name.removeprefix("next_") not in inputs:
                raise self._refusal(f"output {name!r} has no input {name.removeprefix('next_')!r}")
        states = {}
        for name, given in inputs.items():
            after = outputs.get(f"next_{name}")
            if after is None:
                raise self._refusal(f"input {name!r} has no output {'next_' + name!r}")
            if not all(isinstance(n, int) and n > 0 for n in given.shape):
                raise self._refusal(f"input {name!r} has shape {given.shape}; fix every dimension")
            if after.type != given.type:
                raise self._refusal(f"{name!r} is {given.type} but its next is {after.type}")
            states[name] = (tuple(given.shape), _dtype(given.type))
        if states and self.frames > 1:
            raise self._refusal("a recurrent network (inputs state_*) cannot take clips; remove `clip` from its card")
        return states

    def _warm_up(self, count: int) -> None:
        """Runs once on grey images: this shows the shapes of the outputs, and makes the slow first allocations."""
        spec = self.card.input
        image = np.full((count, spec.height, spec.width, 3), 127, np.uint8)
        state = {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._states.items()}
        names = [*self._outputs, *(f"next_{name}" for name in state)]
        try:
            found = self._session.run(names, {"image": image, **state})
            outputs = dict(zip(names, found, strict=True))
            self._check_outputs(outputs, count)
            outputs = {name: value for name, value in outputs.items() if not name.startswith("next_")}
            binding = Binding(self._session, image.shape, outputs, self._states, self._on_gpu)
            # On a GPU, the first run with bound buffers is slow.
            if self._on_gpu:
                binding.run(image, ort.RunOptions())
        except InputError:
            raise
        except Exception as error:
            why = explain_error(error, self.providers) or f"the network fails on its input size ({first_line(error)})"
            raise InputError(f"{self.path}: {why}") from None
        binding.reset()
        self._bindings[count] = binding

    def _check_outputs(self, outputs: Mapping[str, NDArray], count: int) -> None:
        first = outputs["slot_class" if self.in_graph else "class_logits"]
        queries = first.shape[1] if first.ndim > 1 else None
        channels = outputs["mask_features"].shape[1:2] if "mask_features" in outputs else ()
        shapes: dict[str, tuple[int | None, ...]] = {
            "segment_map": (1, None, None),
            "slot_class": (1, queries),
            "slot_score": (1, queries),
            "class_logits": (1, None, len(self.card.taxonomy) + 1),
            "mask_logits": (1, queries, None, None),
            "mask_kernels": (1, queries, *channels),
            "mask_features": (1, None, None, None),
            "query_embeddings": (1, queries, None),
            "query_boxes": (1, queries, 4),
        }
        for name in self._outputs:
            shape = outputs[name].shape
            if self.frames > 1:
                expected = (self.frames if name in PER_FRAME else 1, *shapes[name][1:])
            else:
                # A constant has one row for all images.
                shape = (1, *shape[1:]) if shape[:1] == (count,) else shape
                expected = shapes[name]
            self._check_shape(f"output {name!r}", shape, expected)
        for name, (shape, _) in self._states.items():
            self._check_shape(f"output 'next_{name}'", outputs[f"next_{name}"].shape, shape)
        if empty := [name for name in self._outputs if 0 in outputs[name].shape]:
            raise self._refusal(f"output {empty[0]!r} is empty")


@contextmanager
def _engine_folder(path: Path, wanted: tuple[str, ...], half: bool) -> Iterator[Path | None]:
    """The folder of TensorRT's engines, where it is wanted; shows the time while an engine is built."""
    if "tensorrt" not in wanted:
        yield None
        return
    machine, precision = this_machine(), "fp16" if half else "fp32"
    folder = engine_folder(path, precision, machine)
    if engine_exists(folder):
        yield folder
        return
    folder.mkdir(parents=True, exist_ok=True)
    what = f"TensorRT {machine.tensorrt} builds the {precision} engine of {path.name} for {machine.gpu}"
    with elapsed_time_shown(f"{what}, once, which takes minutes"):
        yield folder
    log.info("%s: its engine is stored in %s", path, folder)


def _dtype(tensor_type: str) -> np.dtype:
    inner = tensor_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))


class Binding:
    """Runs a session on fixed buffers: a frame allocates no memory, and recurrent state stays on its device.

    Args:
        outputs: example values of the outputs that are wanted; their shapes are fixed.
        states: shape and type of each input `state_*`, which gets the value of the output `next_state_*`.
        on_gpu: whether the network runs on a GPU: state stays there, and the image and the outputs are pinned.

    Attributes:
        pinned: whether image and outputs lie in pinned memory.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        image: tuple[int, ...],
        outputs: Mapping[str, NDArray],
        states: Mapping[str, State],
        on_gpu: bool,
    ) -> None:
        self._session, self._states, self._device = session, dict(states), "cuda" if on_gpu else "cpu"
        self._binding = session.io_binding()
        self._outputs = {name: np.empty_like(value) for name, value in outputs.items()}
        self._image = np.zeros(image, np.uint8) if on_gpu else None
        arrays = [*self._outputs.values()] if self._image is None else [self._image, *self._outputs.values()]
        self.pinned = on_gpu and sum(map(self._pin, arrays)) == len(arrays)
        for name, array in self._outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._state: dict[str, ort.OrtValue] = {}
        self._next_state: dict[str, ort.OrtValue] = {}
        self.reset()

    def reset(self) -> None:
        """Sets recurrent state to zeros."""
        self._state, self._next_state = (
            {name: self._value(np.zeros(shape, dtype)) for name, (shape, dtype) in self._states.items()}
            for _ in range(2)
        )

    def run(self, image: NDArray[np.uint8], options: ort.RunOptions) -> dict[str, NDArray]:
        """Outputs by name for uint8 [B, H, W, 3]; the next run overwrites them."""
        if self._image is not None:
            np.copyto(self._image, image)
            image = self._image
        self._binding.bind_cpu_input("image", image)
        for name in self._states:
            self._binding.bind_ortvalue_input(name, self._state[name])
            self._binding.bind_ortvalue_output(f"next_{name}", self._next_state[name])
        self._session.run_with_iobinding(self._binding, options)
        self._state, self._next_state = self._next_state, self._state
        return dict(self._outputs)

    def _value(self, array: NDArray) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)

    def _pin(self, array: NDArray) -> bool:
        pinned = pin(array)
        if pinned:
            weakref.finalize(self, unpin, array)
        return pinned
