"""Modulated deformable convolution (Zhu et al., CVPR 2019) from operators that torch and ONNX have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = 9


class Deformable(nn.Module):
    """3x3 convolution whose nine samples of each cell are moved and weighted by what another convolution says.

    The first 18 channels of `offsets` are row and column of each sample's offset in turn, the last nine its weight
    before the sigmoid. Samples outside the map are zero.
    """

    def __init__(self, cin: int, cout: int, bias: bool) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(cin, 3 * TAPS, 3, padding=1)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)
        plain = nn.Conv2d(cin, cout, 3, bias=bias)
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = (int(n) for n in x.shape)
        told = self.offsets(x).float()
        moved = told[:, : 2 * TAPS].unflatten(1, (TAPS, 2))
        rows = torch.arange(h, device=x.device, dtype=moved.dtype)[:, None]
        columns = torch.arange(w, device=x.device, dtype=moved.dtype)
        taps = torch.arange(TAPS, device=x.device)
        y = moved[:, :, 0] + rows + (torch.div(taps, 3, rounding_mode="floor") - 1)[:, None, None]
        x_ = moved[:, :, 1] + columns + (taps % 3 - 1)[:, None, None]
        # Coordinates of grid_sample, in which a cell's width is 2 / w and the map ends at the borders of its cells.
        grid = torch.stack([(2 * x_ + 1) / w - 1, (2 * y + 1) / h - 1], -1).reshape(b, TAPS * h, w, 2)
        samples = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        samples = samples.reshape(b, c, TAPS, h * w) * told[:, 2 * TAPS :].sigmoid().reshape(b, 1, TAPS, h * w)
        y = self.weight.flatten(1) @ samples.reshape(b, c * TAPS, h * w)
        y = y.reshape(b, -1, h, w)
        return y if self.bias is None else y + self.bias[:, None, None]
