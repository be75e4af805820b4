"""Checkpoints that dvlab-research/PanopticFCN publishes, or that its code trains, with ResNet-50."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.panoptic_fcn.architecture import RESNET, Architecture
from vps_ros.learning.panoptic_fcn.model import PanopticFCN
from vps_ros.learning.panoptic_fcn.names import STATISTICS, published_names
from vps_ros.learning.published import read, require_same
from vps_ros.taxonomies import ALL
from vps_ros.taxonomies.chosen import chosen
from vps_ros.taxonomy import Taxonomy

NAME = "PanopticFCN"
_EPS = 1e-5
"""Of detectron2's batch normalisation."""
_BACKBONE = "backbone.network."
_COUNTER = ".num_batches_tracked"


class DataSet(NamedTuple):
    """What a data set's models are run with: width and height of the input, entries of Architecture, least stuff."""

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
    """A network in eval mode and float32, its classes, and what their data set's models are run with."""

    model: PanopticFCN
    taxonomy: Taxonomy
    data: DataSet


def load(path: str | Path, taxonomy: str | None = None) -> Published:
    """The network of a checkpoint.

    Args:
        taxonomy: name or file of its classes, where their numbers do not tell.

    Raises InputError when the file cannot be read, is of something else, holds more or less than the network, or its
    classes are not known.
    """
    where = str(path)
    tensors = {n: t for n, t in read(path, "dvlab-research/PanopticFCN").items() if not n.endswith(_COUNTER)}
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    things, stuff = (_need(shapes, f"position_head.out_{kind}.weight", where)[0] for kind in ("inst", "sem"))
    classes = _classes(things, stuff - 1, where, taxonomy)
    data = next((d for d in DATA_SETS if d.taxonomy == classes.name), OTHER)
    architecture = dataclasses.replace(recognise(shapes, where), classes=len(classes), **data.architecture)
    with torch.device("meta"):
        model = PanopticFCN(architecture, classes.isthing)
    model.load_state_dict(_taken(tensors, model.state_dict(), where), assign=True)
    # Buffers that no checkpoint holds.
    for name, buffer in PanopticFCN.tables(classes.isthing).items():
        setattr(model, name, buffer)
    return Published(model.eval(), classes, data)


def recognise(shapes: Mapping[str, tuple[int, ...]], where: str) -> Architecture:
    """The architecture that tensors of these names and shapes belong to, but for its classes.

    Raises InputError that names `where` and the tensor by which it is none.
    """

    def count(pattern: str) -> int:
        n = 1
        while any(name.startswith(pattern.format(n)) for name in shapes):
            n += 1
        return n - 1

    position = "position_head.position_head.position_head_head_{}."
    kernel = "kernel_head.kernel_head.kernel_head_head_{}."
    feature = "feature_encoder.encode_head.encode_head_head_{}."
    lateral = _need(shapes, "backbone.fpn_lateral2.weight", where)
    embedding = _need(shapes, "thing_generator.embed_extractor.weight", where)
    counts = [count(pattern) for pattern in (position, kernel, feature)]
    for name, number in zip(("position", "kernel", "feature"), counts, strict=True):
        if not number:
            raise InputError(f"{where}: not a checkpoint of {NAME}, its {name} head has no convolutions")
    return Architecture(
        backbone=RESNET,
        width=lateral[0],
        position_convs=counts[0],
        kernel_convs=counts[1],
        feature_convs=counts[2],
        deformable=position.format(1) + "offset_mask_conv.weight" in shapes,
        feature_deformable=feature.format(1) + "offset_mask_conv.weight" in shapes,
        feature_channels=embedding[0],
        embedding_dim=0,
    )


def _need(shapes: Mapping[str, tuple[int, ...]], name: str, where: str) -> tuple[int, ...]:
    if name not in shapes:
        raise InputError(f"{where}: not a checkpoint of {NAME}, it lacks {name}")
    if not shapes[name] or not all(shapes[name]):
        raise InputError(f"{where}: not a checkpoint of {NAME}, its {name} is empty")
    return shapes[name]


def _classes(things: int, stuff: int, where: str, choice: str | None) -> Taxonomy:
    if choice is not None:
        taxonomy = chosen(choice)
        if _counts(taxonomy.isthing) != (things, stuff):
            raise InputError(
                f"--taxonomy {choice}: has {'{} things and {} stuff classes'.format(*_counts(taxonomy.isthing))}, "
                f"{where} has {things} and {stuff}"
            )
        return taxonomy
    known = [ALL[d.taxonomy] for d in DATA_SETS if _counts(ALL[d.taxonomy].isthing) == (things, stuff)]
    if not known:
        raise InputError(
            f"{where}: {things} things and {stuff} stuff classes, which are not those of "
            f"{', '.join(d.taxonomy for d in DATA_SETS)}; name them with --taxonomy"
        )
    return known[0]


def _counts(isthing: NDArray[np.bool_]) -> tuple[int, int]:
    return int(isthing.sum()), int((~isthing).sum())


def _taken(tensors: Mapping[str, Tensor], mine: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Our tensors, put together from the published ones."""
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
            raise InputError(f"{where}: the normalisation after {published} is not of its {rows[0]} channels")
        gain = norm[0] / (norm[3] + _EPS).sqrt()
        weight = tensors[published].double() * gain.view(-1, 1, 1, 1)
        # The release's networks see blue first.
        found[name] = weight.flip(1) if name == f"{_BACKBONE}stem.weight" else weight
        found[name.removesuffix("weight") + "bias"] = norm[1] - norm[2] * gain
    for name, value in found.items():
        if value.shape != mine[name].shape:
            raise InputError(
                f"{where}: {names[name]} has shape {list(value.shape)}, this network's has {list(mine[name].shape)}"
            )
        if not torch.isfinite(value).all():
            raise InputError(f"{where}: {names[name]} holds NaN or infinity; the training that wrote it went wrong")
    return {name: value.to(mine[name].dtype) for name, value in found.items()}
