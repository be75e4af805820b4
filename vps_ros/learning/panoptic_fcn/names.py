"""The names that dvlab-research/PanopticFCN gives the tensors which are ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

_RULES = (
    (r"^backbone\.network\.stem\.", "backbone.bottom_up.stem.conv1."),
    (r"^pyramid\.coarser\.0\.", "backbone.top_block.p6."),
    (r"^pyramid\.coarser\.1\.", "backbone.top_block.p7."),
    (r"^position_head\.class_head\.", "position_head.out_inst."),
    (r"^position_head\.region_class_head\.", "position_head.out_sem."),
    (r"^kernel_head\.out\.", "kernel_head.out_conv."),
    (r"^(thing|stuff)_kernels\.", r"\1_generator.embed_extractor."),
)
_TOWERS = {
    "position_head.tower.layers": "position_head.position_head.position_head_head_",
    "kernel_head.tower.layers": "kernel_head.kernel_head.kernel_head_head_",
    "feature_encoder.layers": "feature_encoder.encode_head.encode_head_head_",
}
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def published_names(mine: Iterable[str]) -> dict[str, str]:
    """Published name of each of our tensors; a convolution of the backbone has no bias there, but a normalisation."""
    mine = list(mine)
    deformable = {n.split(".conv.")[0] for n in mine if ".conv.offsets." in n}
    return {name: _published(name, deformable) for name in mine}


def _published(name: str, deformable: set[str]) -> str:
    layer = re.match(r"(.*\.layers)\.(\d+)\.(.*)", name)
    if layer and layer[1] in _TOWERS:
        moved = f"{layer[1]}.{layer[2]}" in deformable and ".offsets." not in name
        rest = re.sub(r"^norms\.0", "norm", re.sub(r"^conv\.(?=weight|bias)", "", layer[3]))
        rest = rest.replace("conv.offsets.", "offset_mask_conv.")
        return f"{_TOWERS[layer[1]]}{int(layer[2]) + 1}.{'dcnv2.' * moved}{rest}"
    if block := re.match(r"backbone\.network\.stages\.(\d+)\.(.*)", name):
        return f"backbone.bottom_up.res{int(block[1]) + 2}.{block[2]}"
    if level := re.match(r"pyramid\.(lateral|output)s\.(\d+)\.(.*)", name):
        return f"backbone.fpn_{level[1]}{int(level[2]) + 2}.{level[3]}"
    if level := re.match(r"pyramid\.fine\.(\d+)\.(\d+)\.(.*)", name):
        # From the second level on, each layer is followed by an enlargement, which has a number too.
        number = int(level[2]) * (2 if int(level[1]) else 1)
        name = f"semantic_fpn.p{int(level[1]) + 2}.{number}.{level[3]}"
        return name.replace(".norms.0.", ".norm.").replace(".conv.", ".")
    for pattern, published in _RULES:
        name = re.sub(pattern, published, name)
    return name
