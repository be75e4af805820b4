"""Comparing a network with its model file although both decide.

Where decoders attend only to what a mask covers (Mask2Former, OneFormer), a logit near zero may fall to the one side in
torch and to the other in ONNX Runtime, and all that follows differs by far more than the last digits; torch's own
float32 is then as far from its float64. So torch is given the file's masks of attention, which may differ from its own
only where its logits are near zero; what is left has to agree.
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
from torch.nn import functional as F

from vps_ros.learning.export import OUTPUTS
from vps_ros.learning.verify import Difference, differences, open_telling

NAME = "attention"


class AsDecided(nn.Module):
    """A network, uint8 [1, H, W, 3] to a tuple of outputs, that attends where a file does.

    Args:
        network: whose part `owner` has the method `method`, called once before each decoder layer and once after the
            last; it takes, third, the size of the layer's map, and returns mask logits [1, N, h, w] and, behind them,
            where not to attend, bool [heads, N, cells].
        path: the model file, in which the latter are the results of Less.
    """

    def __init__(self, network: nn.Module, path: str | Path, owner: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self._path, self._owner, self._method = network, path, owner, method
        # Of the logit that was decided otherwise from zero, as a share of the largest of its layer.
        self._behind = 0.0
        self._session, self._names = open_telling(path, "Less", onnx.TensorProto.BOOL)

    def differences(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        """How far the file is from the network: each output given where to attend, and that itself."""
        found = differences(self, self._path, images, OUTPUTS)
        return (*found, Difference(NAME, self._behind, self._behind))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        chosen = self._session.run(self._names, {"image": image.numpy()}) if self._names else []
        with self._given([torch.from_numpy(one) for one in chosen]):
            return self.network(image)

    @contextmanager
    def _given(self, chosen: Sequence[Tensor]) -> Iterator[None]:
        original, left = getattr(self._owner, self._method), list(chosen)

        def decided(*args: object, **named: object) -> tuple[Tensor, ...]:
            *found, own = original(*args, **named)
            if not left:
                # The call after the last layer, whose decision nobody heeds.
                return (*found, own)
            told = left.pop(0)
            size = named["attention_mask_target_size"] if named else args[2]
            self._weigh(F.interpolate(found[-1], size=size, mode="bilinear", align_corners=False), own, told)
            return (*found, told)

        setattr(self._owner, self._method, decided)
        try:
            yield
        finally:
            delattr(self._owner, self._method)
        if left:
            raise RuntimeError(f"{self._path}: {len(left)} decisions of the graph are none of the network's")

    def _weigh(self, logits: Tensor, own: Tensor, told: Tensor) -> None:
        if own.shape != told.shape:
            raise RuntimeError(f"{self._path}: attends to {list(told.shape)}, torch to {list(own.shape)}")
        # All heads attend alike.
        differs, logits = (own != told)[0], logits.flatten(2)[0]
        if differs.any():
            self._behind = max(self._behind, float(logits[differs].abs().max() / logits.abs().max().clamp(min=1e-6)))
