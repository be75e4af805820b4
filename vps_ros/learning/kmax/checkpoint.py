"""Checkpoints of bytedance/kmax-deeplab: {"model": tensors by name, ...}.

The file's tensor names are mapped to those of KMaxDeepLab, and its shapes determine the architecture. Axial-ResNet has
no published PyTorch weights; its published names are the same as ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from vps_ros.errors import InputError
from vps_ros.learning.export.published import read, require_same, require_shape, state_dict_of
from vps_ros.learning.kmax.architecture import Architecture, BackboneSpec, Kind, Semantic
from vps_ros.learning.kmax.backbones import STAGES
from vps_ros.learning.kmax.model import KMaxDeepLab

_CONVOLUTIONS = (
    (r"\.reduce\.", "._conv1_bn_act."),
    (r"\.spatial\.", "._conv2_bn_act."),
    (r"\.expand\.", "._conv3_bn."),
    (r"\.shortcut\.", "._shortcut."),
)
_AXIAL = (
    (r"\.attention\.(height|width)\.", r"._attention._\1_axis."),
    (r"\.qkv\.weight$", ".qkv_transform.conv.weight"),
    (r"\.(query|key|value)_positions$", r"._\1_rpe._embeddings.weight"),
    (r"\.qkv_norm\.", "._batch_norm_qkv."),
    (r"\.similarity_norm\.", "._batch_norm_similarity."),
    (r"\.retrieved_norm\.", "._batch_norm_retrieved_output."),
)
_PREDICTOR_RULES = (
    (r"(^|\.)predictor\.", r"\1_predcitor."),
    (r"\.pixel_near\.", "._pixel_space_head_conv0bnact."),
    (r"\.pixel_mix\.", "._pixel_space_head_conv1bnact."),
    (r"\.pixel_out\.", "._pixel_space_head_last_convbn."),
    (r"\.mask_head\.", "._transformer_mask_head."),
    (r"\.class_head\.", "._transformer_class_head.conv."),
    (r"\.mask_norm\.", "._pixel_space_mask_batch_norm."),
)
_LAYER = (
    (r"^layers\.", "_kmax_transformer_layers."),
    (r"\.query_in\.", "._query_conv1_bn_act."),
    (r"\.pixel_in\.", "._pixel_conv1_bn_act."),
    (r"\.pixel_value\.", "._pixel_v_conv_bn."),
    (r"\.centre_norm\.", "._kmeans_query_batch_norm_retrieved_value."),
    (r"\.centre_out\.", "._kmeans_query_conv3_bn."),
    (r"\.attention\.qkv\.", "._query_qkv_conv_bn."),
    (r"\.attention\.similarity_norm\.", "._query_self_attention._batch_norm_similarity."),
    (r"\.attention\.retrieved_norm\.", "._query_self_attention._batch_norm_retrieved_value."),
    (r"\.attention\.out\.", "._query_conv3_bn."),
    (r"\.widen\.", "._query_ffn_conv1_bn_act."),
    (r"\.narrow\.", "._query_ffn_conv2_bn."),
)
_SEMANTIC = (
    (r"^semantic\.", "_auxiliary_semantic_predictor."),
    (r"\.2\.(weight|bias)$", r".2.conv.\1"),
    (r"\.pyramid\.branches\.", "._aspp._aspp_conv"),
    (r"\.pyramid\.pool\.", "._aspp._aspp_pool."),
    (r"\.pyramid\.mix\.", "._aspp._proj_conv_bn_act."),
    (r"\.middle\.project\.", "._low_level_projection_os8."),
    (r"\.middle\.near\.", "._low_level_fusion_os8_conv0_bn_act."),
    (r"\.middle\.mix\.", "._low_level_fusion_os8_conv1_bn_act."),
    (r"\.fine\.project\.", "._low_level_projection_os4."),
    (r"\.fine\.near\.", "._low_level_fusion_os4_conv0_bn_act."),
    (r"\.fine\.mix\.", "._low_level_fusion_os4_conv1_bn_act."),
    (r"\.near\.", ".conv_block_0."),
    (r"\.mix\.", ".conv_block_1."),
    (r"\.out\.", ".final_conv.conv."),
)
_RULES = {
    "resnet": (
        (r"\.reduce\.", ".conv1."),
        (r"\.spatial\.", ".conv2."),
        (r"\.expand\.", ".conv3."),
        (r"\.stem\.", ".stem.conv1."),
        (r"\.conv\.weight$", ".weight"),
    ),
    "convnext": (
        (r"\.stem\.", ".downsample_layers.0."),
        (r"\.shrink\.0\.", ".downsample_layers.1."),
        (r"\.shrink\.1\.", ".downsample_layers.2."),
        (r"\.shrink\.2\.", ".downsample_layers.3."),
        (r"\.depthwise\.", ".dwconv."),
        (r"\.widen\.", ".pwconv1."),
        (r"\.narrow\.", ".pwconv2."),
        (r"\.scale$", ".gamma"),
    ),
    "axial_resnet": (),
    "pixel_decoder": (
        *_CONVOLUTIONS,
        *_AXIAL,
        (r"\.norms\.", "._in_norms."),
        (r"\.stages\.(\d+)\.", r"._stages.\1._blocks."),
        (r"\.fusions\.(\d+)\.(low|high)\.", r"._resized_fuses.\1._conv_bn_\2."),
    ),
    "centres": ((r"^centres$", "_cluster_centers.weight"),),
    "layers": (*_LAYER, *_PREDICTOR_RULES),
    "predictor": _PREDICTOR_RULES,
    "semantic": _SEMANTIC,
    "class_projection": ((r"^class_projection", "_class_embedding_projection"),),
    "mask_projection": ((r"^mask_projection", "_mask_embedding_projection"),),
}
_FOLDERS = {"backbone": "", "pixel_decoder": "sem_seg_head."}


def published_name(ours: str, kind: str) -> str:
    """The published name of a tensor of KMaxDeepLab with this kind of backbone."""
    part = ours.partition(".")[0]
    name = ours
    for pattern, replacement in _RULES[kind if part == "backbone" else part]:
        name = re.sub(pattern, replacement, name, count=1)
    return _FOLDERS.get(part, _PREDICTOR) + name


def published_names(ours: Iterable[str], kind: str) -> dict[str, str]:
    """Mapping from published names to the names of KMaxDeepLab."""
    return {published_name(name, kind): name for name in ours}


NAME = "kMaX-DeepLab"
_FIRST: dict[str, Kind] = {
    "backbone.stem.conv1.weight": "resnet",
    "backbone.downsample_layers.0.0.weight": "convnext",
    "backbone.stem.0.conv.weight": "axial_resnet",
}
"""Name of a tensor that only this kind of backbone has."""
_LAST = {
    "resnet": "backbone.{1}.{{}}.conv3.weight",
    "convnext": "backbone.stages.{0}.{{}}.gamma",
    "axial_resnet": "backbone.{1}.{{}}.expand.conv.weight",
}
"""Pattern for the tensor of a block whose first dimension is the number of channels, by index and name of the stage."""
_DECODER = "sem_seg_head.pixel_decoder."
_PREDICTOR = "sem_seg_head.predictor."
_COUNTER = ".num_batches_tracked"
"""Batch counter of batch normalisation; weights converted from TensorFlow lack it, and it is not needed."""


def load(path: str | Path) -> KMaxDeepLab:
    """The network of a checkpoint, in eval mode and float32.

    Raises InputError when the file cannot be read, or its tensors are not those of the network.
    """
    tensors = read(path, "bytedance/kmax-deeplab")
    architecture = infer_architecture({name: tuple(t.shape) for name, t in tensors.items()}, str(path))
    with torch.device("meta"):
        model = KMaxDeepLab(architecture)
    mine = model.state_dict()
    names = published_names(mine, architecture.backbone.kind)
    for name in names:
        if name.endswith(_COUNTER) and name not in tensors:
            tensors[name] = torch.zeros((), dtype=torch.int64)
    require_same(names, tensors, str(path), NAME)
    values = {ours: tensors[name] for name, ours in names.items()}
    published = {ours: name for name, ours in names.items()}
    model.load_state_dict(state_dict_of(values, mine, published, str(path)), assign=True)
    return model.eval()


def infer_architecture(shapes: Mapping[str, tuple[int, ...]], where: str) -> Architecture:
    """The architecture of the network with tensors of these names and shapes.

    Raises InputError that names the file `where` and the tensor that does not fit.
    """

    def need(name: str) -> tuple[int, ...]:
        return require_shape(shapes, name, where, NAME)

    def count(pattern: str) -> int:
        n = 0
        while pattern.format(n) in shapes:
            n += 1
        return n

    kind: Kind | None = next((kind for name, kind in _FIRST.items() if name in shapes), None)
    if kind is None:
        raise InputError(f"{where}: not a checkpoint of kMaX-DeepLab, its backbone is unknown")
    centres = need(f"{_PREDICTOR}_cluster_centers.weight")
    stages = count(f"{_DECODER}_in_norms.{{}}.weight")
    block = f"{_DECODER}_stages.{{}}._blocks.{{}}._conv3_bn.conv.weight"
    if stages not in (4, 5):
        raise InputError(f"{where}: a pixel decoder of {stages} stages; kMaX-DeepLab has 4 or 5")
    channels = tuple(need(block.format(i, 0))[0] // 4 for i in range(stages))
    if len(set(channels[:3])) < 3:
        raise InputError(
            f"{where}: pixel decoder stages of {channels[:3]} channels do not determine the strides of its layers"
        )
    axial = count(f"{_DECODER}_stages.{{}}._blocks.0._attention._height_axis._batch_norm_qkv.weight")
    layer = f"{_PREDICTOR}_kmax_transformer_layers.{{}}._pixel_conv1_bn_act.conv.weight"
    heads = need(f"{_PREDICTOR}_kmax_transformer_layers.0._query_self_attention._batch_norm_similarity.weight")[0]
    inputs = [shapes[layer.format(i)][1:2] for i in range(count(layer))]
    semantic: Semantic = "none"
    if f"{_PREDICTOR}_auxiliary_semantic_predictor.0.conv.weight" in shapes:
        semantic = "head"
    elif f"{_PREDICTOR}_auxiliary_semantic_predictor._aspp._aspp_conv0.conv.weight" in shapes:
        semantic = "decoder"
    layers = [inputs.count((4 * c,)) for c in channels[:3]]
    return Architecture(
        _backbone(kind, need, count),
        need(f"{_PREDICTOR}_predcitor._transformer_class_head.conv.weight")[0] - 1,
        centres[-1],
        tuple(count(block.format(i, "{}")) for i in range(stages)),
        channels,
        axial,
        (layers[0], layers[1], layers[2]),
        centres[0],
        heads,
        semantic,
    )


def _backbone(kind: Kind, need, count) -> BackboneSpec:
    patterns = [_LAST[kind].format(i, name) for i, name in enumerate(STAGES)]
    depths = tuple(count(pattern) for pattern in patterns)
    return BackboneSpec(kind, depths, tuple(need(pattern.format(0))[0] for pattern in patterns))
