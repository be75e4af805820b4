"""The names that bytedance/kmax-deeplab gives the tensors which are ours.

Axial-ResNet has no published PyTorch weights; its names are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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
_PREDICTOR = (
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
    "layers": (*_LAYER, *_PREDICTOR),
    "predictor": _PREDICTOR,
    "semantic": _SEMANTIC,
    "class_projection": ((r"^class_projection", "_class_embedding_projection"),),
    "mask_projection": ((r"^mask_projection", "_mask_embedding_projection"),),
}
_FOLDERS = {"backbone": "", "pixel_decoder": "sem_seg_head."}
_HEAD = "sem_seg_head.predictor."


def published_name(ours: str, kind: str) -> str:
    """The published name of a tensor of KMaxDeepLab with a backbone of this kind."""
    part = ours.partition(".")[0]
    name = ours
    for pattern, replacement in _RULES[kind if part == "backbone" else part]:
        name = re.sub(pattern, replacement, name, count=1)
    return _FOLDERS.get(part, _HEAD) + name


def published_names(ours: Iterable[str], kind: str) -> dict[str, str]:
    """Published name -> ours, of all of them."""
    return {published_name(name, kind): name for name in ours}
