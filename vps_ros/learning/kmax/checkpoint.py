"""Checkpoints that bytedance/kmax-deeplab publishes, or that its code trains: {"model": tensors by name, ...}."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from vps_ros.errors import InputError
from vps_ros.learning.kmax.architecture import Architecture, BackboneSpec, Kind, Semantic
from vps_ros.learning.kmax.backbones import STAGES
from vps_ros.learning.kmax.model import KMaxDeepLab
from vps_ros.learning.kmax.names import published_names
from vps_ros.learning.published import read, require_same

_FIRST = {
    "backbone.stem.conv1.weight": "resnet",
    "backbone.downsample_layers.0.0.weight": "convnext",
    "backbone.stem.0.conv.weight": "axial_resnet",
}
"""A tensor that only backbones of one kind have."""
_LAST = {
    "resnet": "backbone.{1}.{{}}.conv3.weight",
    "convnext": "backbone.stages.{0}.{{}}.gamma",
    "axial_resnet": "backbone.{1}.{{}}.expand.conv.weight",
}
"""The tensor of a block that has as many rows as the block has channels, by number and name of the stage."""
_DECODER = "sem_seg_head.pixel_decoder."
_PREDICTOR = "sem_seg_head.predictor."
_COUNTER = ".num_batches_tracked"
"""Of batch normalisation; tensors ported from TensorFlow lack it, and nothing needs it."""


def load(path: str | Path) -> KMaxDeepLab:
    """The network of a checkpoint, in eval mode and float32.

    Raises InputError when the file cannot be read, is of something else, or holds more or less than the network.
    """
    tensors = read(path, "bytedance/kmax-deeplab")
    architecture = recognise({name: tuple(t.shape) for name, t in tensors.items()}, str(path))
    with torch.device("meta"):
        model = KMaxDeepLab(architecture)
    mine = model.state_dict()
    names = published_names(mine, architecture.backbone.kind)
    for name in names:
        if name.endswith(_COUNTER) and name not in tensors:
            tensors[name] = torch.zeros((), dtype=torch.int64)
    require_same(names, tensors, str(path), "kMaX-DeepLab")
    for name, ours in names.items():
        if tensors[name].shape != mine[ours].shape:
            raise InputError(
                f"{path}: {name} has shape {list(tensors[name].shape)}, this network's has {list(mine[ours].shape)}"
            )
        if not torch.isfinite(tensors[name]).all():
            raise InputError(f"{path}: {name} holds NaN or infinity; the training that wrote it went wrong")
    model.load_state_dict({ours: tensors[name].to(mine[ours].dtype) for name, ours in names.items()}, assign=True)
    return model.eval()


def recognise(shapes: Mapping[str, tuple[int, ...]], where: str) -> Architecture:
    """The architecture that tensors of these names and shapes belong to.

    Raises InputError that names `where` and the tensor by which it is none.
    """

    def need(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise InputError(f"{where}: not a checkpoint of kMaX-DeepLab, it lacks {name}")
        if not shapes[name] or not all(shapes[name]):
            raise InputError(f"{where}: not a checkpoint of kMaX-DeepLab, its {name} is empty")
        return shapes[name]

    def count(pattern: str) -> int:
        n = 0
        while pattern.format(n) in shapes:
            n += 1
        return n

    kind = next((kind for name, kind in _FIRST.items() if name in shapes), None)
    if kind is None:
        raise InputError(f"{where}: not a checkpoint of kMaX-DeepLab, it has no backbone that is known")
    centres = need(f"{_PREDICTOR}_cluster_centers.weight")
    stages = count(f"{_DECODER}_in_norms.{{}}.weight")
    block = f"{_DECODER}_stages.{{}}._blocks.{{}}._conv3_bn.conv.weight"
    if stages not in (4, 5):
        raise InputError(f"{where}: a pixel decoder of {stages} stages; kMaX-DeepLab has 4 or 5")
    channels = tuple(need(block.format(i, 0))[0] // 4 for i in range(stages))
    if len(set(channels[:3])) < 3:
        raise InputError(f"{where}: pixel decoder stages of {channels[:3]} channels do not tell its layers' strides")
    axial = count(f"{_DECODER}_stages.{{}}._blocks.0._attention._height_axis._batch_norm_qkv.weight")
    layer = f"{_PREDICTOR}_kmax_transformer_layers.{{}}._pixel_conv1_bn_act.conv.weight"
    heads = need(f"{_PREDICTOR}_kmax_transformer_layers.0._query_self_attention._batch_norm_similarity.weight")[0]
    inputs = [shapes[layer.format(i)][1:2] for i in range(count(layer))]
    semantic: Semantic = "none"
    if f"{_PREDICTOR}_auxiliary_semantic_predictor.0.conv.weight" in shapes:
        semantic = "head"
    elif f"{_PREDICTOR}_auxiliary_semantic_predictor._aspp._aspp_conv0.conv.weight" in shapes:
        semantic = "decoder"
    return Architecture(
        _backbone(kind, need, count),
        need(f"{_PREDICTOR}_predcitor._transformer_class_head.conv.weight")[0] - 1,
        centres[-1],
        tuple(count(block.format(i, "{}")) for i in range(stages)),
        channels,
        axial,
        tuple(inputs.count((4 * c,)) for c in channels[:3]),
        centres[0],
        heads,
        semantic,
    )


def _backbone(kind: Kind, need, count) -> BackboneSpec:
    patterns = [_LAST[kind].format(i, name) for i, name in enumerate(STAGES)]
    depths = tuple(count(pattern) for pattern in patterns)
    return BackboneSpec(kind, depths, tuple(need(pattern.format(0))[0] for pattern in patterns))
