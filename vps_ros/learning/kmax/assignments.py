"""Comparing a network with its model file although both decide.

A k-means step gives each pixel to its best query. Where two are equal but for the last digits, torch and ONNX Runtime
may choose differently, and all that follows differs by far more. So torch is given the file's choices, each of which
must be among the best by torch's own logits; what is left has to agree to the last digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros.learning.export import OUTPUTS
from vps_ros.learning.kmax.decoder import KMeansLayer
from vps_ros.learning.verify import Difference, differences, open_telling


class AsAssigned(nn.Module):
    """A network, uint8 [1, H, W, 3] to a tuple of outputs, with the pixels of each image assigned as a file does.

    Args:
        network: has a k-means layer for each ArgMax of the file, in their order.
        path: the model file.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        super().__init__()
        self.network, self._path = network, path
        # How far the logits of chosen queries are behind the largest of their pixels; see Difference.
        self._largest, self._squares, self._power = 0.0, 0.0, 0.0
        self.layers = [m for m in network.modules() if isinstance(m, KMeansLayer)]
        self._session, self._names = open_telling(path, "ArgMax", onnx.TensorProto.INT64)
        if len(self._names) != len(self.layers):
            raise RuntimeError(f"{path}: {len(self._names)} assignments, {len(self.layers)} k-means layers")

    def differences(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        """How far the file is from the network: each output given the assignments, and the assignments."""
        found = differences(self, self._path, images, OUTPUTS)
        typical = (self._squares / max(self._power, 1e-12)) ** 0.5
        return (*found, Difference("assignments", self._largest, typical))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        chosen = [torch.from_numpy(a) for a in self._session.run(self._names, {"image": image.numpy()})]
        with given(self.layers, chosen), self._watched():
            return self.network(image)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        hooks = [layer.register_forward_hook(self._weigh) for layer in self.layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _weigh(self, layer: nn.Module, _: tuple, found: tuple) -> None:
        masks = found[1].masks.flatten(2)
        behind = masks.max(1).values - masks.gather(1, layer.given)[:, 0]
        self._largest = max(self._largest, float(behind.max() / masks.abs().max().clamp(min=1e-6)))
        self._squares += float(behind.square().mean())
        self._power += float(masks.square().mean())


@contextmanager
def given(layers: Sequence[nn.Module], chosen: Sequence[Tensor]) -> Iterator[None]:
    """Within it, each k-means layer assigns pixels as in int64 [B, 1, h * w], the query of each."""
    for layer, one in zip(layers, chosen, strict=True):
        layer.given = one
    try:
        yield
    finally:
        for layer in layers:
            layer.given = None
