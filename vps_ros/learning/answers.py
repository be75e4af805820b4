"""What every network is asked for, whatever its kind."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Answers(NamedTuple):
    """The outputs of the ONNX contract for a batch: float [B, N, C + 1], [B, N, h, w], [B, N, D]."""

    class_logits: Tensor
    mask_logits: Tensor
    query_embeddings: Tensor
