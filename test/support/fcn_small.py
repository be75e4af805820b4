"""Small PanopticFCN networks, and checkpoints of them by published names with weights from frozen random numbers."""

import numpy as np
import torch

from vps_ros.learning.panoptic_fcn import pyramid
from vps_ros.learning.panoptic_fcn.architecture import RESNET, Architecture
from vps_ros.learning.panoptic_fcn.checkpoint import STATISTICS, published_names
from vps_ros.learning.panoptic_fcn.model import PanopticFCN
from vps_ros.taxonomies import ALL
from vps_ros.taxonomy import ClassInfo, Taxonomy

CITYSCAPES = ALL["cityscapes"]
TOY = Taxonomy("toy", tuple(ClassInfo(i, name, i > 2, (i, i, i)) for i, name in enumerate("abcde")))
"""Three classes of stuff, two of things."""
SMALL = Architecture(
    backbone="efficientnet-lite0",
    channels=(16, 16, 16, 16),
    heads=2,
    width=32,
    strides=(8, 16),
    sizes=((1, 48), (32, 2048)),
    position_convs=1,
    kernel_convs=1,
    feature_convs=1,
    feature_channels=16,
    norm="batch",
    feature_norm="batch",
    coordinates="added",
    stuff="semantic",
    gate=4.0,
    positions=3,
    things=8,
    smoothed=False,
    embedding_dim=16,
)
CHANNELS, STEM = (16, 32, 64, 128), 8
"""Of a ResNet as deep as the published one, but thin."""


def thin(monkeypatch):
    """Every ResNet that is built from now on has few channels."""
    monkeypatch.setattr(pyramid, "CHANNELS", CHANNELS)
    monkeypatch.setattr(pyramid.ResNet, "channels", CHANNELS)
    monkeypatch.setattr(pyramid, "STEM", STEM)


def published_shapes(a, isthing):
    """Names and shapes of the tensors that the released code saves of such a network."""
    with torch.device("meta"):
        mine = PanopticFCN(a, isthing).state_dict()
    shapes = {}
    for name, published in published_names(mine).items():
        shape = tuple(mine[name].shape)
        if name.startswith("backbone.network."):
            if name.endswith(".weight"):
                shapes[published] = shape
                for part in STATISTICS:
                    shapes[published.removesuffix("weight") + f"norm.{part}"] = shape[:1]
        else:
            shapes[published] = (*shape, 1, 1) if name.endswith("_kernels.weight") else shape
    return shapes


def weights(shapes, stream=0):
    """float32 for every name, drawn in the order of names."""
    rng, found = np.random.RandomState(stream), {}
    for name in sorted(shapes):
        shape = shapes[name]
        if len(shape) > 1:
            value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("running_var"):
            value = rng.random_sample(shape) + 0.5
        elif name.endswith(("bias", "running_mean")):
            value = rng.standard_normal(shape) * 0.1
        else:
            value = rng.random_sample(shape) * 0.5 + 0.5
        found[name] = torch.from_numpy(value.astype(np.float32))
    return found


def published_architecture(**more):
    return Architecture(
        **{"backbone": RESNET, "classes": len(CITYSCAPES), "width": 32, "feature_channels": 16}
        | {"embedding_dim": 0}
        | more
    )


def checkpoint(path, a, isthing=CITYSCAPES.isthing, stream=0):
    """A .pth file as detectron2 writes it; gives its tensors."""
    tensors = weights(published_shapes(a, isthing), stream)
    torch.save({"model": tensors, "iteration": 1}, path)
    return tensors


def picture(height, width, stream=1):
    """float32 [1, 3, height, width] RGB in 0..255."""
    rng = np.random.RandomState(stream)
    coarse = rng.random_sample((1, 3, height // 8, width // 8)).astype(np.float32) * 255
    return torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(height, width), mode="bilinear")
