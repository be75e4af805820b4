"""The exported form of a k-means mask transformer, and its comparison with the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.learning.export import onnx_file as export
from vps_ros.learning.export import verify
from vps_ros.learning.network_io import KernelOutputs, ModelOutputs

_SPARED = 2e-4
"""Share of the mask logits that belong to one or two pixels. Features of a pixel are scaled to length 1; where they are
almost zero, rounding decides their direction."""


class Deployed(export.Deployed):
    """The exported network, including the search for peaks in the heat maps."""

    def forward(self, image: Tensor, peaks: Tensor | None = None) -> ModelOutputs | KernelOutputs:
        return self.model.model_outputs(self.model(self.normalised(image)), peaks, self.as_kernels)


def compare(deployed: Deployed, path: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[verify.Difference, ...]:
    """Differences of a file from torch, with the peaks of the file: two nearly equal scores may be in another order."""
    if not deployed.model.architecture.dense_things:
        return verify.differences(deployed, path, images, deployed.outputs)
    peaks = verify.node_outputs(path, "TopK", onnx.TensorProto.INT64, 1)

    def with_peaks(image: Tensor) -> ModelOutputs | KernelOutputs:
        return deployed(image, *peaks(image))

    return verify.differences(with_peaks, path, images, deployed.outputs, spared=_SPARED)
