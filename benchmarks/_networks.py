"""Large networks with random weights as model files, whose outputs are those of a street."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks._scene import street

NETWORKS = ("Mask2Former Swin-T", "kMaX ResNet-50", "kMaX ConvNeXt-T")
SIZES = ((1024, 2048), (384, 1280))
"""Height and width; kMaX-DeepLab's sides are one longer."""
_BACKBONES = {"kMaX ResNet-50": "resnet50", "kMaX ConvNeXt-T": "convnext-tiny"}
_QUERIES = 100


def write(network: str, size: tuple[int, int], half: bool, path: Path) -> Path:
    """The model file of one of NETWORKS."""
    if network in _BACKBONES:
        _kmax(_BACKBONES[network], size, half, path)
    else:
        _mask2former(size, half, path)
    _show_a_street(path)
    return path


def with_graph(host: Path, path: Path) -> Path:
    """The same with its post-processing inside the graph, for images of the input's size."""
    import onnx

    from vps_ros.learning.in_graph.append import append

    model = onnx.load(str(host))
    _, height, width, _ = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    append(model, (height, width), str(host))
    onnx.save(model, str(path))
    return path


def _kmax(backbone: str, size: tuple[int, int], half: bool, path: Path) -> None:
    import torch

    from vps_ros.learning.export import graphs
    from vps_ros.learning.export.onnx_file import OUTPUTS, Deployed
    from vps_ros.learning.kmax.architecture import published
    from vps_ros.learning.kmax.export import card_of
    from vps_ros.learning.kmax.model import KMaxDeepLab

    height, width = size[0] + 1, size[1] + 1
    model = KMaxDeepLab(published("cityscapes", backbone)).eval()
    card = card_of(model.architecture, "random", (width, height))
    image = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    graphs.trace(Deployed(model, card.input).eval(), image, path, OUTPUTS)
    graph = graphs.fold(path)
    graphs.save(graphs.halved(graph) if half else graph, card, path)


def _mask2former(size: tuple[int, int], half: bool, path: Path) -> None:
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
        SwinConfig,
    )

    from vps_ros.learning.hf import import_checkpoint
    from vps_ros.taxonomy import CITYSCAPES

    stages = ["stage1", "stage2", "stage3", "stage4"]
    tiny = SwinConfig(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_features=stages)
    labels = {i: c.name for i, c in enumerate(CITYSCAPES.classes)}
    config = Mask2FormerConfig(backbone_config=tiny, num_queries=_QUERIES, id2label=labels)
    folder = path.parent / "mask2former"
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    sides = {"height": size[0], "width": size[1]}
    Mask2FormerImageProcessorPil(size=sides, num_labels=len(labels)).save_pretrained(folder)
    import_checkpoint(str(folder), path, (size[1], size[0]), half)
    shutil.rmtree(folder)


def _show_a_street(path: Path) -> None:
    """Class and mask logits become those of a street, after the network has computed its own."""
    import onnx
    from onnx import helper, numpy_helper

    from vps_ros.learning.in_graph.nodes import rename

    model = onnx.load(str(path))
    graph = model.graph
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output}
    _, queries, height, width = shapes["mask_logits"]
    shown = street((height, width), queries)
    for name in ("class_logits", "mask_logits"):
        kind = next(o for o in graph.output if o.name == name).type.tensor_type.elem_type
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        rename(graph, name, f"computed_{name}")
        # Zeros that no optimiser can know of: no output is exactly this number.
        graph.initializer.append(numpy_helper.from_array(np.array(1234.5, dtype), f"never_{name}"))
        graph.initializer.append(numpy_helper.from_array(shown[name].astype(dtype), f"street_{name}"))
        graph.node.append(helper.make_node("Equal", [f"computed_{name}", f"never_{name}"], [f"found_{name}"]))
        graph.node.append(helper.make_node("Cast", [f"found_{name}"], [f"zero_{name}"], to=kind))
        graph.node.append(helper.make_node("Add", [f"zero_{name}", f"street_{name}"], [name]))
    onnx.save(model, str(path))
