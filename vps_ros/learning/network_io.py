"""Input sizes of a network, the grid on which its labels are sampled, its outputs, and the frames of its clips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vps_ros.errors import InputError


class InputSizes(NamedTuple):
    """Valid widths and heights: a multiple of `multiple`, plus `plus`."""

    multiple: int
    plus: int = 0

    def accepts(self, size: tuple[int, int]) -> bool:
        """Whether width and height are valid."""
        return all(side > self.plus and (side - self.plus) % self.multiple == 0 for side in size)

    def nearest(self, size: tuple[int, int]) -> tuple[int, int]:
        """The valid width and height nearest to these."""
        w, h = (max(round((side - self.plus) / self.multiple), 1) * self.multiple + self.plus for side in size)
        return w, h

    def require(self, size: tuple[int, int], what: str, largest: int) -> None:
        """Raises InputError for a `--size` that the network `what` cannot take; the message gives the nearest size."""
        if self.accepts(size) and max(size) <= largest:
            return
        width, height = (min(side, largest) for side in self.nearest(size))
        raise InputError(
            f"--size {size[0]}x{size[1]}: sides of {what} are {self}, up to {largest}; try {width}x{height}"
        )

    def __str__(self) -> str:
        return f"multiples of {self.multiple}" + (f" plus {self.plus}" if self.plus else "")


@dataclass(frozen=True)
class LabelGrid:
    """The points at which labels are sampled: the centres of cells of `stride` pixels.

    With `aligned`: every `stride`-th pixel from the first to the last one, for sides of a multiple plus one.
    """

    stride: int = 4
    aligned: bool = False

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the grid on an image of this width and height."""
        if self.aligned:
            return (size[0] - 1) // self.stride + 1, (size[1] - 1) // self.stride + 1
        return size[0] // self.stride, size[1] // self.stride


STRIDE_4 = LabelGrid()


class KernelOutputs(NamedTuple):
    """As ModelOutputs, with masks as products of kernels [B, N, D] and features [B, D, h, w]."""

    class_logits: Tensor
    mask_kernels: Tensor
    mask_features: Tensor
    query_embeddings: Tensor


def with_masks(kernels: Tensor, features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels [B, N + S, D + S] and features [B, D + S, h, w] of N masks that are products and S that are not.

    Each of the S masks is a channel of its own. The products are the same as before, then the masks.

    Args:
        kernels: [B, N, D].
        features: [B, D, h, w].
        masks: [B, S, h, w].
    """
    (b, n, d), s = (int(size) for size in kernels.shape), int(masks.shape[1])
    own = torch.eye(s, device=kernels.device).expand(b, s, s)
    top = torch.cat([kernels, kernels.new_zeros(b, n, s)], 2)
    return torch.cat([top, torch.cat([kernels.new_zeros(b, s, d), own], 2)], 1), torch.cat([features, masks], 1)


class ModelOutputs(NamedTuple):
    """The outputs of the ONNX contract for a batch: float [B, N, C + 1], [B, N, h, w], [B, N, D].

    For clips of T frames, the masks are [B * T, N, h, w].
    """

    class_logits: Tensor
    mask_logits: Tensor
    query_embeddings: Tensor


class ClipNetwork(Protocol):
    """A network that can segment clips, with the weights that it has for images.

    Attributes:
        frames: T, of each clip. The input is [B * T, 3, H, W], the frames of a clip one after the other; in the output,
            maps are those of one tall image, T * h rows (Video-kMaX, section 3.1: T x H x W as 1 x TH x W).
    """

    frames: int


def join_frames(maps: Tensor, frames: int) -> Tensor:
    """[B * T, C, h, w] as [B, C, T * h, w]: the frames of each clip, the first on top."""
    if frames == 1:
        return maps
    clips, channels, height, width = (int(n) for n in (maps.shape[0] // frames, *maps.shape[1:]))
    stacked = maps.reshape(clips, frames, channels, height, width).transpose(1, 2)
    return stacked.reshape(clips, channels, frames * height, width)


def split_frames(maps: Tensor, frames: int) -> Tensor:
    """The inverse of `join_frames`."""
    if frames == 1:
        return maps
    clips, channels, height, width = (int(n) for n in (*maps.shape[:2], maps.shape[2] // frames, maps.shape[3]))
    stacked = maps.reshape(clips, channels, frames, height, width).transpose(1, 2)
    return stacked.reshape(clips * frames, channels, height, width)


@contextmanager
def single_images(network: ClipNetwork) -> Iterator[None]:
    """Within this context, the network takes images instead of clips."""
    frames, network.frames = network.frames, 1
    try:
        yield
    finally:
        network.frames = frames
