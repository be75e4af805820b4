"""An ONNX Runtime session whose providers are those that were asked for, and whose tensors keep the contract."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.segmenters.binding import Binding
from vps_ros.segmenters.engines import engine_folder, is_built, this_machine, told
from vps_ros.segmenters.failures import explain, first_line
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard
from vps_ros.segmenters.parameters import SegmenterParameters
from vps_ros.segmenters.providers import (
    available_providers,
    left_to_the_cpu,
    providers_in_use,
    session_options,
    setup,
)

log = logging.getLogger(__name__)

_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_RAW = {"class_logits": 3, "mask_logits": 4, "query_embeddings": 3}
_IN_GRAPH = {"segment_map": 3, "slot_class": 2, "slot_score": 2, "query_embeddings": 3}
_TYPES = {"segment_map": ("tensor(uint8)",), "slot_class": ("tensor(int32)",)}


class Session:
    """A model of the ONNX contract, ready to run.

    Attributes:
        card: from the file's metadata.
        providers: in use, in order, by the names of SegmenterParameters.providers.
        in_graph: whether post-processing is inside the graph.

    Raises InputError when the file is not such a model, or a provider that was asked for is not in use.
    """

    def __init__(self, path: Path, parameters: SegmenterParameters) -> None:
        self.path = path
        wanted = available_providers(parameters.providers, parameters.allow_fallback)
        with _building(path, wanted, parameters.tensorrt_fp16) as engines:
            try:
                self._session = ort.InferenceSession(
                    os.fspath(path),
                    session_options(parameters.threads),
                    setup(wanted, engines, parameters.tensorrt_fp16),
                )
            # ONNX Runtime's exceptions share no base below Exception, and any of them means that the file is no use.
            except Exception as error:
                why = explain(error, wanted) or (
                    f"ONNX Runtime cannot load it ({first_line(error)}); give an ONNX file made by `vps-ros export`"
                )
                raise InputError(f"{path}: {why}") from None
            self.providers = providers_in_use(self._session, wanted, parameters.allow_fallback)
            self.card = self._read_card()
            self.in_graph = self._check_names()
            self._states = self._check_states()
            self._running = ort.RunOptions()
            self._binding = self._warm_up()
        if self._on_gpu and (left := left_to_the_cpu(self._session)):
            log.warning(
                "%s: %s has no %s; the CPU computes it", path, " and ".join(self.providers[:-1]), ", ".join(left)
            )

    @property
    def recurrent(self) -> bool:
        return bool(self._states)

    def reset(self) -> None:
        """Recurrent state to zeros."""
        self._binding.reset()

    def run(self, image: NDArray[np.uint8]) -> dict[str, NDArray]:
        """Outputs by name for uint8 [1, H, W, 3], which hold until the next call; the next state is kept for it.

        Raises InputError when memory runs out.
        """
        self._running = options = ort.RunOptions()
        try:
            return self._binding.run(image, options)
        except Exception as error:
            if why := explain(error, self.providers):
                raise InputError(f"{self.path}: {why}") from None
            raise

    def interrupt(self) -> None:
        """Makes a run that is under way in another thread fail at its next node; later ones are not affected."""
        self._running.terminate = True

    @property
    def _on_gpu(self) -> bool:
        return self.providers[0] != "cpu"

    def _read_card(self) -> ModelCard:
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise InputError(
                f"{self.path}: has no metadata {METADATA_KEY!r} (classes, input size, thresholds); "
                f"add it with `vps-ros export {self.path} -o OUT.onnx`"
            )
        return ModelCard.from_json(metadata[METADATA_KEY], str(self.path))

    def _check_names(self) -> bool:
        inputs = {i.name: i for i in self._session.get_inputs()}
        outputs = {o.name: o for o in self._session.get_outputs()}
        self._need(inputs, {"image": 4}, "input", {"image": ("tensor(uint8)",)})
        spec = self.card.input
        self._agree("input 'image'", inputs["image"].shape, (1, spec.height, spec.width, 3))
        if unknown := [name for name in inputs if name != "image" and not name.startswith("state_")]:
            raise InputError(f"{self.path}: input {unknown[0]!r} is not of the contract (image, state_*); {_AGAIN}")
        in_graph = "segment_map" in outputs
        self._need(outputs, _IN_GRAPH if in_graph else _RAW, "output", _TYPES)
        if not in_graph:
            self._agree("output 'class_logits'", outputs["class_logits"].shape, (1, None, len(self.card.taxonomy) + 1))
        return in_graph

    def _need(self, there: Mapping, ranks: Mapping[str, int], kind: str, types: Mapping[str, tuple[str, ...]]) -> None:
        for name, rank in ranks.items():
            if name not in there:
                raise InputError(
                    f"{self.path}: lacks the {kind} {name!r} (it has {', '.join(sorted(there)) or 'none'}); {_AGAIN}"
                )
            allowed = types.get(name, _FLOATS)
            if there[name].type not in allowed:
                raise InputError(f"{self.path}: {kind} {name!r} is {there[name].type}, not {allowed[0]}; {_AGAIN}")
            if there[name].shape and len(there[name].shape) != rank:
                raise InputError(
                    f"{self.path}: {kind} {name!r} has shape {there[name].shape}, not rank {rank}; {_AGAIN}"
                )

    def _agree(self, what: str, shape, expected) -> None:
        """Symbolic dimensions, and None in `expected`, agree with anything."""
        for have, want in zip(shape, expected, strict=True):
            if isinstance(have, int) and want is not None and have != want:
                wanted = ", ".join("any" if n is None else str(n) for n in expected)
                raise InputError(f"{self.path}: {what} has shape {list(shape)}, not [{wanted}]; {_AGAIN}")

    def _check_states(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        outputs = {o.name: o for o in self._session.get_outputs()}
        inputs = {i.name: i for i in self._session.get_inputs() if i.name.startswith("state_")}
        for name in outputs:
            if name.startswith("next_state_") and name.removeprefix("next_") not in inputs:
                raise InputError(f"{self.path}: output {name!r} has no input {name.removeprefix('next_')!r}; {_AGAIN}")
        states = {}
        for name, given in inputs.items():
            after = outputs.get(f"next_{name}")
            if after is None:
                raise InputError(f"{self.path}: input {name!r} has no output {'next_' + name!r}; {_AGAIN}")
            if not all(isinstance(n, int) and n > 0 for n in given.shape):
                raise InputError(f"{self.path}: input {name!r} has shape {given.shape}; fix every dimension; {_AGAIN}")
            if after.type != given.type:
                raise InputError(f"{self.path}: {name!r} is {given.type} but its next is {after.type}; {_AGAIN}")
            states[name] = (tuple(given.shape), _dtype(given.type))
        return states

    def _warm_up(self) -> Binding:
        """Runs on grey: slow first allocations are over, and the true shapes are known."""
        spec = self.card.input
        image = np.full((1, spec.height, spec.width, 3), 127, np.uint8)
        state = {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._states.items()}
        names = [*(_IN_GRAPH if self.in_graph else _RAW), *(f"next_{name}" for name in state)]
        try:
            found = self._session.run(names, {"image": image, **state})
            outputs = dict(zip(names, found, strict=True))
            self._check_shapes(outputs)
            outputs = {name: value for name, value in outputs.items() if not name.startswith("next_")}
            binding = Binding(self._session, image.shape, outputs, self._states, self._on_gpu)
            binding.run(image, ort.RunOptions())
        except InputError:
            raise
        except Exception as error:
            why = explain(error, self.providers) or f"the network fails on its own input size ({first_line(error)})"
            raise InputError(f"{self.path}: {why}") from None
        binding.reset()
        return binding

    def _check_shapes(self, outputs: Mapping[str, NDArray]) -> None:
        for name, rank in (_IN_GRAPH if self.in_graph else _RAW).items():
            if outputs[name].ndim != rank:
                raise InputError(f"{self.path}: output {name!r} has shape {list(outputs[name].shape)}; {_AGAIN}")
        queries = outputs["query_embeddings"].shape[1]
        if self.in_graph:
            shapes = {"segment_map": (1, None, None), "slot_class": (1, queries), "slot_score": (1, queries)}
        else:
            shapes = {
                "class_logits": (1, queries, len(self.card.taxonomy) + 1),
                "mask_logits": (1, queries, None, None),
            }
        for name, shape in shapes.items():
            self._agree(f"output {name!r}", outputs[name].shape, shape)
        for name, (shape, _) in self._states.items():
            self._agree(f"output 'next_{name}'", outputs[f"next_{name}"].shape, shape)
        if 0 in outputs["query_embeddings"].shape:
            raise InputError(f"{self.path}: output 'query_embeddings' is empty; {_AGAIN}")


_AGAIN = "export the model again with `vps-ros export`"


@contextmanager
def _building(path: Path, wanted: tuple[str, ...], half: bool) -> Iterator[Path | None]:
    """The folder of TensorRT's engines, when it is wanted; tells how a first one is being built."""
    if "tensorrt" not in wanted:
        yield None
        return
    machine, precision = this_machine(), "fp16" if half else "fp32"
    folder = engine_folder(path, precision, machine)
    if is_built(folder):
        yield folder
        return
    folder.mkdir(parents=True, exist_ok=True)
    what = f"TensorRT {machine.tensorrt} builds the {precision} engine of {path.name} for {machine.gpu}"
    with told(f"{what}, once, which takes minutes"):
        yield folder
    log.info("%s: its engine is kept in %s", path, folder)


def _dtype(tensor_type: str) -> np.dtype:
    inner = tensor_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))
