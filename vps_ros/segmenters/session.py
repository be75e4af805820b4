"""An ONNX Runtime session whose providers are those that were asked for, and whose tensors keep the contract."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.segmenters.contract import METADATA_KEY, ModelCard

log = logging.getLogger(__name__)

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_NAMES = {theirs: ours for ours, theirs in _PROVIDERS.items()}
_REMEDIES = {
    "cpu": "install onnxruntime",
    "cuda": "install onnxruntime-gpu in place of onnxruntime, with CUDA and cuDNN",
    "tensorrt": "install onnxruntime-gpu in place of onnxruntime, with CUDA and TensorRT",
}
_QUIET = 3
"""ONNX Runtime's severity "error"; what it would warn about is checked and said here."""
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_RAW = {"class_logits": 3, "mask_logits": 4, "query_embeddings": 3}
_IN_GRAPH = {"segment_map": 3, "slot_class": 2, "slot_score": 2, "query_embeddings": 3}
_TYPES = {"segment_map": ("tensor(uint8)",), "slot_class": ("tensor(int32)",)}


class Session:
    """A model of the ONNX contract, ready to run.

    Attributes:
        card: from the file's metadata.
        providers: in use, in order, by the names of Config.providers.
        in_graph: whether post-processing is inside the graph.

    Raises InputError when the file is not such a model, or a provider that was asked for is not in use.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        wanted = available_providers(config.providers, config.allow_fallback)
        if "tensorrt" in wanted:
            log.warning("%s: TensorRT builds its engine at the first start, which takes minutes; it is kept", path)
        try:
            self._session = ort.InferenceSession(
                os.fspath(path), _options(config.threads), providers=[_with_options(name) for name in wanted]
            )
        # ONNX Runtime's exceptions share no base below Exception, and any of them means that the file is no use.
        except Exception as error:
            raise InputError(
                f"{path}: ONNX Runtime cannot load it ({_first_line(error)}); "
                "give an ONNX file made by `vps-ros export`"
            ) from None
        self.providers = self._in_use(wanted, config.allow_fallback)
        self.card = self._read_card()
        self.in_graph = self._check_names()
        self._names = [output.name for output in self._session.get_outputs()]
        self._states = self._check_states()
        self._state: dict[str, NDArray] = {}
        self._running = ort.RunOptions()
        self.reset()
        self._warm_up()

    @property
    def recurrent(self) -> bool:
        return bool(self._states)

    def reset(self) -> None:
        """Recurrent state to zeros."""
        self._state = {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._states.items()}

    def run(self, image: NDArray[np.uint8]) -> dict[str, NDArray]:
        """Outputs by name for uint8 [1, H, W, 3]; the next state is kept for the next call."""
        self._running = options = ort.RunOptions()
        found = self._session.run(None, {"image": image, **self._state}, options)
        outputs = dict(zip(self._names, found, strict=True))
        for name in self._states:
            self._state[name] = outputs.pop(f"next_{name}")
        return outputs

    def interrupt(self) -> None:
        """Makes a run that is under way in another thread fail at its next node; later ones are not affected."""
        self._running.terminate = True

    def _in_use(self, wanted: tuple[str, ...], allow_fallback: bool) -> tuple[str, ...]:
        """ONNX Runtime drops a provider that fails to start and goes on without; here that is an error."""
        used = tuple(_NAMES.get(name, name) for name in self._session.get_providers())
        lost = [name for name in wanted if name not in used]
        if lost:
            message = (
                f"provider {lost[0]} is installed but did not start (in use: {', '.join(used)}); {_REMEDIES[lost[0]]}"
            )
            if not allow_fallback:
                raise InputError(f"{message}, or set allow_fallback")
            log.warning("%s; going on without it", message)
        return used

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

    def _warm_up(self) -> None:
        """One run on grey: slow first allocations are over, and the true shapes are known."""
        spec = self.card.input
        try:
            outputs = self.run(np.full((1, spec.height, spec.width, 3), 127, np.uint8))
        except Exception as error:
            raise InputError(f"{self.path}: the network fails on its own input size ({_first_line(error)})") from None
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
            self._agree(f"output 'next_{name}'", self._state[name].shape, shape)
        if 0 in outputs["query_embeddings"].shape:
            raise InputError(f"{self.path}: output 'query_embeddings' is empty; {_AGAIN}")
        self.reset()


_AGAIN = "export the model again with `vps-ros export`"


def available_providers(wanted: tuple[str, ...], allow_fallback: bool) -> tuple[str, ...]:
    """The providers of `wanted` that this build of ONNX Runtime has, in order; the CPU when none is left.

    Raises InputError for one that it lacks, unless `allow_fallback`, which warns instead.
    """
    have = [ours for ours, theirs in _PROVIDERS.items() if theirs in ort.get_available_providers()]
    missing = [name for name in wanted if name not in have]
    if not missing:
        return wanted
    message = f"provider {missing[0]} is not available here (there is: {', '.join(have)}); {_REMEDIES[missing[0]]}"
    if not allow_fallback:
        raise InputError(f"{message}, or choose another with providers, or set allow_fallback")
    left = tuple(name for name in wanted if name in have) or ("cpu",)
    log.warning("%s; going on with %s", message, ", ".join(left))
    return left


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads or _cores()
    options.inter_op_num_threads = 1
    # Threads that go on spinning after a run would take the cores from optical flow and post-processing.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _with_options(name: str):
    if name != "tensorrt":
        return _PROVIDERS[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vps_ros" / "tensorrt"
    return _PROVIDERS[name], {"trt_engine_cache_enable": "True", "trt_engine_cache_path": os.fspath(cache)}


def _dtype(tensor_type: str) -> np.dtype:
    inner = tensor_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
