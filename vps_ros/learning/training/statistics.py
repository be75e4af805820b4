"""Batch normalisation with the statistics of unlabelled images.

Source: AdaBN (Li et al., Revisiting Batch Normalization For Practical Domain Adaptation, ICLR workshop 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros.learning.kinds import Kind, normalised
from vps_ros.segmenters.model_card import InputSpec
from vps_ros.segmenters.preprocess import fit, prepare

PART = "backbone."
"""Prefix of the layers that are adapted. Those of the decoder depend more on what the images show: with them, the gain
is smaller."""
BATCH = 4


def prepared(images: Sequence[NDArray[np.uint8]], spec: InputSpec) -> Iterator[Tensor]:
    """Batches of images, uint8 [H, W, 3] RGB each, as float32 [B, 3, H, W], the input of the network."""
    for first in range(0, len(images), BATCH):
        part = [prepare(one, fit(spec, *one.shape[:2]), spec.padding) for one in images[first : first + BATCH]]
        yield normalised(torch.from_numpy(np.concatenate(part)), spec)


@torch.no_grad()
def adapt_statistics(network: nn.Module, kind: Kind, images: Sequence[NDArray[np.uint8]], spec: InputSpec) -> int:
    """Sets mean and variance of each batch normalisation of the backbone to those of the images; returns their number.

    Args:
        network: in eval mode.
        images: uint8 [H, W, 3] RGB each, which may differ in size.
        spec: the input of the network.
    """
    layers = [m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and name.startswith(PART)]
    if not layers:
        return 0
    usual = layers[0].momentum
    for layer in layers:
        layer.reset_running_stats()
        # None: the mean over all batches.
        layer.momentum = None
        layer.train()
    device = next(network.parameters()).device
    for batch in prepared(images, spec):
        kind.predict(network, batch.to(device))
    for layer in layers:
        layer.momentum = usual
        layer.eval()
    return len(layers)
