"""Semantic segmentation networks as models for stuff, and for things as connected components if requested.

Logits [1, C, h, w] or [1, h, w, C] become one mask per class; a class map [1, h, w] becomes the segment map. Connected
components are a makeshift: objects that touch or overlap in the image are one object.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from vps_ros.errors import InputError
from vps_ros.learning.export.published import source_json
from vps_ros.learning.in_graph.nodes import FLOAT, INT32, INT64, UINT8, Nodes, Value
from vps_ros.learning.onnx_import.class_names import semantic_classes
from vps_ros.learning.onnx_import.network import SLACK, Network, Outputs, are_probabilities, open_network, write_model
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import Taxonomy

LAYOUTS = ("nchw", "nhwc", "map")
"""Of the output: logits with the classes first or last, or a map of class indices."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VOID = 255
LEAST_PROBABILITY = 1e-6
CONFIDENCE = 8.0
"""Class logit of the class of a mask; a score of about 0.99."""
STUFF_AREA = 1 / 1024
"""Smallest stuff segment as a fraction of the input; 2048 pixels for images of Cityscapes."""


def import_semantic(
    source: str | Path,
    path: str | Path,
    classes: str,
    size: tuple[int, int] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    layout: str | None = None,
    components: int = 0,
) -> ModelCard:
    """Imports a semantic segmentation network; returns the model card.

    Args:
        classes: see class_names.semantic_classes; in the order of the network's classes.
        size: width and height of the input, for networks with a dynamic size.
        mean: of RGB in 0..1; of ImageNet by default. Not for networks that take uint8.
        std: as `mean`.
        layout: one of LAYOUTS; by default determined by the shape of the output.
        components: pixels of the input from which on a connected component of a thing class is an object; 0: pixels of
            thing classes are void.

    Raises InputError when the file is not such a network, or has another number of classes.
    """
    network = open_network(source, size)
    taxonomy = semantic_classes(classes)
    output, layout = _output(network, layout, len(taxonomy))
    spec = _input_spec(network, mean, std)
    values = network.values[output]
    if layout == "map" and (values != np.round(values)).any():
        example = values[values != np.round(values)][0]
        raise InputError(
            f"{network.where}: output {output!r} has the shape of a class map, {list(values.shape)}, but its values "
            f"are no class indices (as {example:g}); {network.remedy}"
        )
    # Networks with a softmax at their end: the logarithm is as good as the logits.
    probabilities = layout != "map" and are_probabilities(values) and _sums_to_one(values, layout)
    name = Path(network.where).stem
    source_text = source_json(
        "semantic segmentation", file=Path(network.where).name, terms=network.metadata.get("license", "")
    )
    card = ModelCard(name, taxonomy, spec, "softmax_queries", semantic_thresholds(spec, components), source_text)

    def outputs(nodes: Nodes, given: Outputs) -> dict[str, Value]:
        value = given[output]
        if layout == "map":
            return _maps(nodes, value, network.shapes[output], taxonomy, bool(components))
        if probabilities:
            value = value.larger(LEAST_PROBABILITY).apply("Log")
        return _logits(nodes, value, layout, taxonomy)

    write_model(network, card, path, outputs)
    return card


def semantic_thresholds(spec: InputSpec, components: int = 0) -> Thresholds:
    """Each pixel gets the class with the largest logit; for `components` see import_semantic."""
    return Thresholds(
        thing=0.0 if components else 1.0,
        stuff=0.0,
        mask=0.0,
        mode="pixel_wise",
        stuff_area=round(spec.width * spec.height * STUFF_AREA),
        thing_area=components,
        components=bool(components),
    )


def class_logits(count: int) -> NDArray[np.float32]:
    """[1, C, C + 1]: one mask per class."""
    classes = np.zeros((1, count, count + 1), np.float32)
    classes[0, np.arange(count), np.arange(count)] = CONFIDENCE
    return classes


def _input_spec(
    network: Network, mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None
) -> InputSpec:
    width, height = network.size
    if network.input_type == TensorProto.UINT8:
        if mean is not None or std is not None:
            raise InputError(f"{network.where}: takes uint8 images, without normalisation; leave out --mean and --std")
        return InputSpec(height, width, (0.0,) * 3, (1.0,) * 3)
    mean, std = mean or IMAGENET[0], std or IMAGENET[1]
    if not all(value > 0 for value in std):
        raise InputError(f"--std {','.join(map(str, std))}: each of the three numbers must be positive")
    r, g, b = (255 * value for value in mean)
    sr, sg, sb = (255 * value for value in std)
    return InputSpec(height, width, (r, g, b), (sr, sg, sb))


def _output(network: Network, layout: str | None, classes: int) -> tuple[str, str]:
    """Name and layout of the output; raises InputError when it is ambiguous or has another number of classes."""
    fitting = {name: shape for name, shape in network.shapes.items() if len(shape) in (3, 4) and shape[0] == 1}
    of_classes = any(len(shape) == 4 and classes in (shape[1], shape[-1]) for shape in fitting.values())
    if layout is None and not of_classes and network.finds_instances:
        raise InputError(f"{network.where}: {network.remedy}")
    if len(network.shapes) != 1 and len(fitting) != 1:
        # Networks with auxiliary heads: the first output is the main one.
        fitting = dict(list(fitting.items())[:1])
    if not fitting:
        raise InputError(
            f"{network.where}: its outputs ({network.outputs}) are not semantic segmentation: [1, C, h, w], "
            f"[1, h, w, C] or [1, h, w]; {network.remedy}"
        )
    name, shape = next(iter(fitting.items()))
    possible = _layouts(shape, network.types[name], classes)
    if layout is not None:
        if layout not in _layouts(shape, network.types[name], None):
            raise InputError(f"--layout {layout}: output {name!r} of {network.where} has shape {list(shape)}")
        found = _class_count(shape, layout)
        if found not in (None, classes):
            raise InputError(_wrong_count(network, name, found or 0, classes))
        return name, layout
    if len(possible) == 1:
        return name, possible[0]
    if possible:
        raise InputError(f"{network.where}: output {name!r} has shape {list(shape)}; say with --layout which it is")
    channels = _class_count(shape, "nchw" if shape[1] < shape[-1] else "nhwc") or 0
    raise InputError(_wrong_count(network, name, channels, classes))


def _layouts(shape: tuple[int, ...], dtype: np.dtype, classes: int | None) -> list[str]:
    """Layouts that an output of this shape can have; with `classes`, those with this number of classes."""
    if len(shape) == 3 or 1 in (shape[1], shape[3]):
        return ["map"]
    if dtype.kind != "f":
        return []
    return [name for name in ("nchw", "nhwc") if classes in (None, _class_count(shape, name))]


def _class_count(shape: tuple[int, ...], layout: str) -> int | None:
    return {"nchw": shape[1], "nhwc": shape[-1], "map": None}[layout]


def _wrong_count(network: Network, output: str, found: int, classes: int) -> str:
    shape = list(network.shapes[output])
    return (
        f"{network.where}: output {output!r} has shape {shape}, so {found} classes, and --classes names {classes}; "
        "they must be as many"
    )


def _sums_to_one(values: NDArray, layout: str) -> bool:
    sums = values.astype(np.float32).sum(1 if layout == "nchw" else -1)
    return bool(np.abs(sums - 1).max() < SLACK * 10)


def _logits(nodes: Nodes, logits: Value, layout: str, taxonomy: Taxonomy) -> dict[str, Value]:
    """Masks whose softmax is that of the logits; each has its own class."""
    if layout == "nhwc":
        logits = logits.apply("Transpose", perm=[0, 3, 1, 2])
    return {"class_logits": nodes.value(class_logits(len(taxonomy))), "mask_logits": logits}


def _maps(
    nodes: Nodes, classes: Value, shape: tuple[int, ...], taxonomy: Taxonomy, components: bool
) -> dict[str, Value]:
    """The class map as segment map: a slot for each class."""
    h, w = [n for n in shape[1:] if n != 1] if len(shape) == 4 else shape[1:]
    count = len(taxonomy)
    # Indices beyond the classes, as 255 for void, have no slot; nor have things unless components are requested.
    kept = np.ones(count, bool) if components else ~taxonomy.isthing
    table = np.full(count + 1, VOID, np.int32)
    table[:count] = np.where(kept, np.arange(count), VOID)
    index = classes.reshape(1, h, w).cast(INT64)
    inside = (index >= 0) & (index < count)
    index = inside.choose(index, np.array(count, np.int64))
    column = np.where(kept, np.arange(count), -1).astype(np.int32)[None]
    return {
        "segment_map": nodes.value(table).take(index).cast(UINT8),
        "slot_class": nodes.value(column).cast(INT32),
        "slot_score": nodes.value(np.where(kept, 0.99, 0.0).astype(np.float32)[None]).cast(FLOAT),
    }
