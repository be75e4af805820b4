"""Checkpoints of dvlab-research/PanopticFCN with ResNet-50: tensor names, architecture, weights."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.export.published import read, require_same, require_shape, state_dict_of, taxonomy_with
from vps_ros.learning.panoptic_fcn.architecture import RESNET, Architecture
from vps_ros.learning.panoptic_fcn.model import PanopticFCN
from vps_ros.taxonomy import Taxonomy

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
    """Published name of each tensor. Published convolutions of the backbone have a normalisation instead of a bias."""
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
        # From the second level on, each layer is followed by an upsampling layer, which is also numbered.
        number = int(level[2]) * (2 if int(level[1]) else 1)
        name = f"semantic_fpn.p{int(level[1]) + 2}.{number}.{level[3]}"
        return name.replace(".norms.0.", ".norm.").replace(".conv.", ".")
    for pattern, published in _RULES:
        name = re.sub(pattern, published, name)
    return name


NAME = "PanopticFCN"
_EPS = 1e-5
"""Epsilon of batch normalisation in detectron2."""
_BACKBONE = "backbone.network."
_COUNTER = ".num_batches_tracked"


class DataSet(NamedTuple):
    """Settings of the models of a data set: width and height of the input, Architecture entries, smallest stuff."""

    taxonomy: str
    size: tuple[int, int]
    architecture: dict
    stuff_area: int


DATA_SETS = (
    DataSet("coco-panoptic", (1344, 800), {}, 4096),
    DataSet(
        "cityscapes",
        (2048, 1024),
        {
            "sizes": ((1, 128), (64, 256), (128, 512), (256, 1024), (512, 2048)),
            "similar": 0.97,
            "mask": 0.5,
            "centre": 0.01,
        },
        2048,
    ),
)
"""COCO as released; Cityscapes as in DdeGeus/PanopticFCN-IBS."""
OTHER = DataSet("", (1344, 800), {}, 4096)


class Published(NamedTuple):
    """A network in eval mode and float32, its taxonomy, and the settings of its data set."""

    model: PanopticFCN
    taxonomy: Taxonomy
    data: DataSet


def load(path: str | Path, taxonomy: str | None = None) -> Published:
    """The network of a checkpoint.

    Args:
        taxonomy: name or file of its taxonomy; by default determined by the numbers of classes.

    Raises InputError when the file cannot be read, its tensors are not those of the network, or its classes are
    unknown.
    """
    where = str(path)
    tensors = {n: t for n, t in read(path, "dvlab-research/PanopticFCN").items() if not n.endswith(_COUNTER)}
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    heads = (f"position_head.out_{kind}.weight" for kind in ("inst", "sem"))
    things, regions = (require_shape(shapes, head, where, NAME)[0] for head in heads)
    names = [d.taxonomy for d in DATA_SETS]
    classes = taxonomy_with(_counts(things, regions - 1), _counts_of, names, where, taxonomy)
    data = next((d for d in DATA_SETS if d.taxonomy == classes.name), OTHER)
    architecture = dataclasses.replace(infer_architecture(shapes, where), classes=len(classes), **data.architecture)
    with torch.device("meta"):
        model = PanopticFCN(architecture, classes.isthing)
    model.load_state_dict(_converted(tensors, model.state_dict(), where), assign=True)
    # Buffers are not part of the checkpoint.
    for name, buffer in PanopticFCN.tables(classes.isthing).items():
        setattr(model, name, buffer)
    return Published(model.eval(), classes, data)


def infer_architecture(shapes: Mapping[str, tuple[int, ...]], where: str) -> Architecture:
    """The architecture of the network with tensors of these names and shapes, except for its classes.

    Raises InputError that names the file `where` and the tensor that does not fit.
    """

    def count(prefix: str) -> int:
        return next(n for n in itertools.count() if not any(name.startswith(f"{prefix}{n + 1}.") for name in shapes))

    position, _, feature = _TOWERS.values()
    lateral = require_shape(shapes, "backbone.fpn_lateral2.weight", where, NAME)
    embedding = require_shape(shapes, "thing_generator.embed_extractor.weight", where, NAME)
    counts = [count(prefix) for prefix in _TOWERS.values()]
    for name, number in zip(("position", "kernel", "feature"), counts, strict=True):
        if not number:
            raise InputError(f"{where}: not a checkpoint of {NAME}, its {name} head has no convolutions")
    return Architecture(
        backbone=RESNET,
        width=lateral[0],
        position_convs=counts[0],
        kernel_convs=counts[1],
        feature_convs=counts[2],
        deformable=f"{position}1.offset_mask_conv.weight" in shapes,
        feature_deformable=f"{feature}1.offset_mask_conv.weight" in shapes,
        feature_channels=embedding[0],
        embedding_dim=0,
    )


def _counts(things: int, stuff: int) -> str:
    return f"{things} things and {stuff} stuff classes"


def _counts_of(taxonomy: Taxonomy) -> str:
    return _counts(len(taxonomy.thing_ids), len(taxonomy) - len(taxonomy.thing_ids))


def _converted(tensors: Mapping[str, Tensor], mine: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The state dict of PanopticFCN from the published tensors, with batch normalisation of the backbone folded in."""
    names = published_names(mine)
    folded = {n: p for n, p in names.items() if n.startswith(_BACKBONE) and n.endswith(".weight")}
    plain = {n: p for n, p in names.items() if not n.startswith(_BACKBONE)}
    norms = {p.removesuffix("weight") + f"norm.{part}": p for p in folded.values() for part in STATISTICS}
    require_same([*plain.values(), *folded.values(), *norms], tensors, where, NAME)
    found: dict[str, Tensor] = {}
    for name, published in plain.items():
        found[name] = tensors[published].flatten(1) if name.endswith("_kernels.weight") else tensors[published]
    for name, published in folded.items():
        norm = [tensors[published.removesuffix("weight") + f"norm.{part}"].double() for part in STATISTICS]
        rows = tensors[published].shape[:1]
        if any(part.shape != rows for part in norm):
            raise InputError(f"{where}: the normalisation after {published} does not have its {rows[0]} channels")
        gain = norm[0] / (norm[3] + _EPS).sqrt()
        weight = tensors[published].double() * gain.view(-1, 1, 1, 1)
        # The release uses BGR images.
        found[name] = weight.flip(1) if name == f"{_BACKBONE}stem.weight" else weight
        found[name.removesuffix("weight") + "bias"] = norm[1] - norm[2] * gain
    return state_dict_of(found, mine, names, where)
