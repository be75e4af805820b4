"""What Video K-Net hands on from frame to frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vps_ros.learning.video_knet.architecture import Architecture


class State(NamedTuple):
    """Of the previous frame; all zeros: there is none.

    Attributes:
        kernels: [B, N, D], of the last stage, to link with.
        inputs: [B, N, D], those that the last stage began with, before fusion, to fuse.
        kept: [B, N], 1 for each kernel that became a thing of the panoptic map.
        seen: [B], 1 where there is a previous frame.
    """

    kernels: Tensor
    inputs: Tensor
    kept: Tensor
    seen: Tensor


NAMES = tuple(f"state_{name}" for name in State._fields)
"""Of the inputs of the ONNX contract, in order; the outputs are `next_` and these."""


def empty(a: Architecture, stuff: int, batch: int = 1) -> State:
    """No previous frame, for a taxonomy with this many classes of stuff."""
    n = a.queries + stuff
    return State(torch.zeros(batch, n, a.dim), torch.zeros(batch, n, a.dim), torch.zeros(batch, n), torch.zeros(batch))
