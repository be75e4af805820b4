"""Sizes of a kMaX-DeepLab network, and those that are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vps_ros.learning.network_io import InputSizes

Kind = Literal["resnet", "convnext", "axial_resnet"]
Semantic = Literal["none", "head", "decoder"]
SPAN = 255
"""Positions that axial attention can tell apart: longest row or column of a map that it runs over."""


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone.

    Attributes:
        depths, widths: blocks and channels of the stages at strides 4, 8, 16 and 32.
        drop_path: probability that training leaves out a residual branch, in the last block; it grows from 0 at the
            first.
    """

    kind: Kind
    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    drop_path: float = 0.0


_RESNET = (256, 512, 1024, 2048)
BACKBONES = {
    "resnet50": BackboneSpec("resnet", (3, 4, 6, 3), _RESNET),
    "convnext-tiny": BackboneSpec("convnext", (3, 3, 9, 3), (96, 192, 384, 768), 0.3),
    "convnext-small": BackboneSpec("convnext", (3, 3, 27, 3), (96, 192, 384, 768), 0.4),
    "convnext-base": BackboneSpec("convnext", (3, 3, 27, 3), (128, 256, 512, 1024), 0.5),
    "convnext-large": BackboneSpec("convnext", (3, 3, 27, 3), (192, 384, 768, 1536), 0.6),
    "axial-resnet50": BackboneSpec("axial_resnet", (3, 4, 6, 3), _RESNET, 0.2),
}
"""By name, with the drop path of their training."""


@dataclass(frozen=True)
class Architecture:
    """A whole network; the defaults are those for COCO.

    Attributes:
        classes: without void.
        blocks, channels: of the pixel decoder's stages, from stride 32 on; a stage gives four times its channels. A
            fifth stage takes in the backbone's stem.
        axial: how many of these stages, from the first on, use axial attention; the others 3x3 convolutions.
        layers: k-means layers at strides 32, 16 and 8.
        dim: length of a query.
        heads: of every attention.
        semantic: auxiliary segmentation in training: none, a small head on stride 32, or a decoder to stride 4.
        drop_path: probability that training leaves out a residual branch of a k-means layer.
    """

    INPUT_SIZES: ClassVar[InputSizes] = InputSizes(32, 1)

    backbone: BackboneSpec = BACKBONES["resnet50"]
    classes: int = 133
    queries: int = 128
    blocks: tuple[int, ...] = (1, 5, 1, 1)
    channels: tuple[int, ...] = (512, 256, 128, 64)
    axial: int = 2
    layers: tuple[int, int, int] = (2, 2, 2)
    dim: int = 256
    heads: int = 8
    semantic: Semantic = "decoder"
    drop_path: float = 0.2

    @property
    def mask_stride(self) -> int:
        """Input pixels of a mask cell: those of the finest feature. Only Axial-ResNet has one at stride 2."""
        return 2 if len(self.blocks) > 4 and self.backbone.kind == "axial_resnet" else 4

    @property
    def backbone_name(self) -> str:
        """Of BACKBONES where it is one of them."""
        b = self.backbone
        same = (n for n, s in BACKBONES.items() if (s.kind, s.depths, s.widths) == (b.kind, b.depths, b.widths))
        return next(same, f"{b.kind.replace('_', '-')}-{'-'.join(map(str, b.depths))}")


def published(data: str, backbone: str) -> Architecture:
    """The architecture for `coco`, `cityscapes` or `ade20k` with a backbone of BACKBONES."""
    spec = BACKBONES[backbone]
    if data == "coco":
        return Architecture(spec)
    if data == "ade20k":
        return Architecture(spec, classes=150, drop_path=0.0)
    if data == "cityscapes":
        return Architecture(spec, 19, 256, (1, 5, 1, 1, 1), (512, 256, 128, 64, 32), semantic="head")
    raise KeyError(data)
