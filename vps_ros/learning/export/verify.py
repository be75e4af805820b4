"""Comparison of a model file in ONNX Runtime with its network in torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.segmenters.runtime import explain_error

TOLERANCE = 2e-3
"""Largest difference from torch relative to the largest magnitude of an output; float32 sums in another order."""
HALF_TOLERANCE = 0.05
"""Root mean square of the difference of float16 from float32 in torch, relative to that of the output."""
_OCTAVES = (3, 6, 12, 24, 48)
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Difference:
    """Difference of one output from torch, over all compared images.

    Attributes:
        largest: relative to the largest magnitude of the output; infinity if a value of either is not finite.
        typical: root mean square, relative to that of the output.
    """

    name: str
    largest: float
    typical: float


def probes(height: int, width: int, frames: int = 1) -> list[NDArray[np.uint8]]:
    """Test images [1, H, W, 3]: noise, dark noise, and one with the spectrum and edges of natural images.

    With `frames`, clips [frames, H, W, 3], in which each image moves.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    picture = np.zeros((height, width, 3), np.float32)
    for n in _OCTAVES:
        waves = rng.normal(size=(n, n, 3)).astype(np.float32)
        picture += cv2.resize(waves, (width, height), interpolation=cv2.INTER_CUBIC) / n
    for _ in range(12):
        y, x = rng.integers(0, height), rng.integers(0, width)
        low, right = y + rng.integers(2, height // 2 + 3), x + rng.integers(2, width // 2 + 3)
        picture[y:low, x:right] += rng.normal(size=3).astype(np.float32) / 4
    picture = 128 + 60 * (picture - picture.mean()) / max(picture.std(), 1e-6)
    images = (noise, noise // 8, np.clip(picture, 0, 255).astype(np.uint8))
    return [np.stack([np.roll(one, 4 * t, axis=1) for t in range(frames)]) for one in images]


def open_session(path: str | Path, optimised: str | Path | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU; with `optimised`, the graph after constant folding is written to that path.

    Raises InputError when ONNX Runtime's CPU provider lacks an operator, which it names, or memory runs out.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if optimised is not None:
        # The basic level uses operators of the ONNX standard only, for all providers.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions share no base below Exception.
    except Exception as error:
        if why := explain_error(error, ("cpu",)):
            raise InputError(f"{why}; nothing was written, since the file cannot be verified on this machine") from None
        raise


def node_outputs(path: str | Path, operator: str, type: int, which: int = 0) -> Callable[[Tensor], list[Tensor]]:
    """A function from an image to the outputs of all nodes of one operator in a model file, in graph order.

    They are discrete choices, such as an argmax, that rounding can change; the network in torch then uses the same.

    Args:
        type: ONNX element type of these outputs.
        which: index of the output of each node.
    """
    graph = onnx.load(str(path))
    names = [node.output[which] for node in graph.graph.node if node.op_type == operator]
    graph.graph.output.extend(onnx.helper.make_tensor_value_info(name, type, None) for name in names)
    with tempfile.TemporaryDirectory() as folder:
        extended = Path(folder, "extended.onnx")
        onnx.save(graph, str(extended))
        session = open_session(extended)

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(one) for one in session.run(names, {"image": image.numpy()})] if names else []

    return run


def differences(
    network: nn.Module,
    path: str | Path,
    images: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    state: Mapping[str, Tensor] | None = None,
    spared: float = 0.0,
) -> tuple[Difference, ...]:
    """Differences of a model file from the network that it was made from.

    Args:
        network: from uint8 [1, H, W, 3], followed by the state of a recurrent network, to a tuple of the outputs and
            the next state.
        images: uint8 [1, H, W, 3] each; with a state, frames of one sequence, with a state of its own for each of both.
        names: of the outputs, in that order.
        state: of a first frame, inputs of the file by name; the next states are compared too.
        spared: share of the values of each output and image, those with the largest differences, that `largest` leaves
            out.
    """
    session, ours = open_session(path), dict(state or {})
    theirs = {name: one.numpy() for name, one in ours.items()}
    every = [*names, *(f"next_{name}" for name in ours)]
    largest, squares, magnitude, power = (np.zeros(len(every)) for _ in range(4))
    for image in images:
        got = session.run(every, {"image": image, **theirs})
        with torch.no_grad():
            expected = [one.numpy() for one in network(torch.from_numpy(image), *ours.values())]
        theirs = dict(zip(ours, got[len(names) :], strict=True))
        ours = dict(zip(ours, map(torch.from_numpy, expected[len(names) :]), strict=True))
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
                largest[i] = np.inf
                continue
            error = a.astype(np.float64) - b
            rank = error.size - 1 - int(spared * error.size)
            largest[i] = max(largest[i], np.partition(np.abs(error).ravel(), rank)[rank])
            magnitude[i] = max(magnitude[i], np.abs(b).max())
            squares[i] += np.square(error).sum()
            power[i] += np.square(b, dtype=np.float64).sum()
    shares = largest / np.maximum(magnitude, 1e-6)
    typical = np.where(np.isfinite(largest), np.sqrt(squares / np.maximum(power, 1e-12)), np.inf)
    return tuple(Difference(n, float(s), float(t)) for n, s, t in zip(every, shares, typical, strict=True))


def require_close(found: Sequence[Difference], what: str, half: bool = False) -> None:
    """Raises RuntimeError when an output of `what` differs by more than the tolerance of its precision."""
    for one in found:
        seen, allowed = (one.typical, HALF_TOLERANCE) if half else (one.largest, TOLERANCE)
        if not seen <= allowed:
            kind = "root mean square" if half else "range"
            raise RuntimeError(
                f"{what}: ONNX Runtime differs from torch in {one.name} by {seen:.2g} of the output's {kind}, more "
                f"than {allowed:g}; nothing was written"
            )
