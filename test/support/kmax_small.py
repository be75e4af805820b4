"""Small kMaX-DeepLab networks with weights from a frozen stream of random numbers, by their published names."""

import numpy as np
import torch

from vps_ros.learning.kmax.architecture import Architecture, BackboneSpec
from vps_ros.learning.kmax.checkpoint import published_names
from vps_ros.learning.kmax.model import KMaxDeepLab

BACKBONES = {
    "resnet": BackboneSpec("resnet", (3, 4, 6, 3), (32, 64, 128, 256)),
    "convnext": BackboneSpec("convnext", (1, 1, 2, 1), (8, 16, 24, 32)),
    "axial_resnet": BackboneSpec("axial_resnet", (1, 1, 2, 1), (32, 64, 128, 256)),
}


def architecture(kind, stages=4, dim=256, classes=5, queries=8):
    """`stages` of the pixel decoder: 4 as for COCO, 5 as for Cityscapes."""
    more = stages - 4
    return Architecture(
        BACKBONES[kind],
        classes,
        queries,
        (1, 2, 1, 1) + (1,) * more,
        (32, 24, 16, 8) + (8,) * more,
        layers=(1, 1, 1),
        dim=dim,
        semantic="head" if more else "decoder",
        drop_path=0.0,
    )


def weights(shapes, stream=0):
    """float64 for every name but counters, drawn in the order of names."""
    rng, found = np.random.RandomState(stream), {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            continue
        if len(shape) > 1:
            value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("running_var"):
            value = rng.random_sample(shape) + 0.5
        elif name.endswith(("bias", "running_mean")):
            value = rng.standard_normal(shape) * 0.1
        else:
            value = rng.random_sample(shape) * 0.5 + 0.5
        found[name] = torch.from_numpy(np.asarray(value))
    return found


def network(a):
    """The network with such weights, in float64 and eval mode."""
    with torch.device("meta"):
        model = KMaxDeepLab(a).double().eval()
    state = model.state_dict()
    names = published_names(state, a.backbone.kind)
    values = weights({name: tuple(state[ours].shape) for name, ours in names.items()})
    none = torch.zeros((), dtype=torch.int64)
    model.load_state_dict({ours: values.get(name, none.clone()) for name, ours in names.items()}, assign=True)
    return model


def published(model):
    """What a published checkpoint of it holds, in float32."""
    state = model.float().state_dict()
    return {name: state[ours] for name, ours in published_names(state, model.architecture.backbone.kind).items()}


def calibrate(model, images):
    """Gives batch normalisation the statistics of images [B, 3, H, W], so that masks differ from pixel to pixel."""
    for norm in model.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    return model.eval()
