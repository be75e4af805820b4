"""Architecture of a kMaX-DeepLab network, and the published architectures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vps_ros.learning.network_io import InputSizes

Kind = Literal["resnet", "convnext", "axial_resnet"]
Semantic = Literal["none", "head", "decoder"]
SPAN = 255
"""Largest number of rows or columns of a feature map with axial attention."""


@dataclass(frozen=True)
class BackboneSpec:
    """Architecture of a backbone.

    Attributes:
        depths, widths: blocks and channels of the stages at strides 4, 8, 16 and 32.
        drop_path: probability of dropping the residual branch of the last block in training; it increases linearly
            from 0 at the first block.
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
"""Published backbones by name, with the drop path probability of their training."""


@dataclass(frozen=True)
class Architecture:
    """Architecture of the network; the defaults are those for COCO.

    Attributes:
        classes: number of classes, void excluded.
        blocks, channels: of the pixel decoder stages, from stride 32 on; a stage has four times as many output
            channels. A fifth stage uses the stem of the backbone.
        axial: number of stages, from the first on, with axial attention; the others have 3x3 convolutions.
        layers: numbers of k-means layers at strides 32, 16 and 8.
        dim: length of a query.
        heads: number of heads of every attention layer.
        semantic: auxiliary segmentation in training: none, a small head at stride 32, or a decoder to stride 4.
        drop_path: probability of dropping a residual branch of a k-means layer in training.
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
        """Stride of the masks in input pixels; only Axial-ResNet has a feature at stride 2."""
        return 2 if len(self.blocks) > 4 and self.backbone.kind == "axial_resnet" else 4

    @property
    def backbone_name(self) -> str:
        """The name in BACKBONES, or the kind and the depths."""
        b = self.backbone
        same = (n for n, s in BACKBONES.items() if (s.kind, s.depths, s.widths) == (b.kind, b.depths, b.widths))
        return next(same, f"{b.kind.replace('_', '-')}-{'-'.join(map(str, b.depths))}")


def published(data: str, backbone: str) -> Architecture:
    """The published architecture for `coco`, `cityscapes` or `ade20k` with a backbone of BACKBONES."""
    spec = BACKBONES[backbone]
    if data == "coco":
        return Architecture(spec)
    if data == "ade20k":
        return Architecture(spec, classes=150, drop_path=0.0)
    if data == "cityscapes":
        return Architecture(spec, 19, 256, (1, 5, 1, 1, 1), (512, 256, 128, 64, 32), semantic="head")
    raise KeyError(data)
