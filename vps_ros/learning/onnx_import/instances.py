"""Instance segmentation networks: YOLO (Ultralytics v5 to v12 and v26, and compatible exports) and RF-DETR.

Layouts of the predictions, with C classes, M prototypes and n candidates:

| layout | shape | columns |
|---|---|---|
| YOLO v8 to v12 | [1, 4 + C + M, n] | centre x, y, width, height in pixels; scores; mask coefficients |
| YOLO v5, v7 | [1, n, 5 + C + M] | centre x, y, width, height in pixels; objectness; scores; mask coefficients |
| YOLO v10, v26 | [1, 300, 6 + M] | x0, y0, x1, y1 in pixels; score; class; mask coefficients; no suppression needed |
| RF-DETR | dets [1, n, 4], labels [1, n, C], masks [1, n, h, w] | boxes in 0..1; class logits; mask logits |

The masks of YOLO are the products of coefficients and prototypes [1, M, h, w], cropped to the box. Post-processing
multiplies and crops: only for objects above the threshold, and at the resolution of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from vps_ros.errors import InputError
from vps_ros.learning.export.published import source_json
from vps_ros.learning.in_graph.nodes import FLOAT, INT64, Nodes, Value
from vps_ros.learning.onnx_import.class_names import instance_classes, metadata_names
from vps_ros.learning.onnx_import.embedding import FeatureMap, feature_map, pooled
from vps_ros.learning.onnx_import.network import SLACK, Network, Outputs, open_network, require_logits, write_model
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import Taxonomy

SLOTS = 100
"""Largest number of objects in a frame."""
CANDIDATES = 1000
"""Number of candidates with the highest scores that non-maximum suppression compares."""
LEAST_SCORE = 0.05
"""Smallest score in the graph; the threshold of the model card can be raised and lowered down to it."""
NOTHING = -20.0
"""Logit of a probability near zero."""
GREY = (114, 114, 114)
"""Padding of YOLO."""
IMAGENET = InputSpec(1, 1, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
THRESHOLDS = Thresholds(
    thing=0.25, stuff=0.25, overlap=0.5, mask=0.5, mode="mask_wise", things_first=True, drop_void=False
)
"""Ultralytics' default score, and the overlap rule of Panoptic FPN (Kirillov et al., 2019)."""


@dataclass(frozen=True)
class YoloLayout:
    """A layout of YOLO's predictions.

    Attributes:
        name: for messages.
        extra: columns besides scores and mask coefficients.
        transposed: the candidates are the last axis.
        iou: IoU from which non-maximum suppression removes a candidate, as in the program of origin; 0 for none.
    """

    name: str
    extra: int
    transposed: bool
    iou: float


V8 = YoloLayout("YOLO v8 to v12", 4, True, 0.7)
V5 = YoloLayout("YOLO v5, v7", 5, False, 0.45)
END_TO_END = YoloLayout("YOLO v10, v26", 6, False, 0.0)


def import_yolo(
    source: str | Path,
    path: str | Path,
    size: tuple[int, int] | None = None,
    classes: str | None = None,
    embedding: str | None = None,
) -> ModelCard:
    """Imports an instance segmentation network of YOLO; returns the model card.

    Args:
        size: width and height of the input, for networks with a dynamic size.
        classes: see class_names.instance_classes; by default the metadata `names`.
        embedding: name of a node or tensor whose features become query_embeddings (embedding.py).

    Raises InputError when the file is not such a network, or its classes are unknown or of another number, or it has no
    such features.
    """
    network = open_network(source, size, embedding)
    taxonomy = instance_classes(classes, network.metadata, network.where)
    found = _yolo_outputs(network, len(taxonomy))
    _require_scores(network, found, len(taxonomy))

    def build(nodes: Nodes, outputs: Outputs) -> dict[str, Value]:
        return _yolo_slots(nodes, outputs, found, len(taxonomy))

    width, height = network.size
    spec = InputSpec(height, width, (0.0,) * 3, (255.0,) * 3, keep_aspect=True, fill=GREY)
    card = _card(network, found.layout.name, taxonomy, spec)
    write_model(network, card, path, build)
    return card


def import_rfdetr(
    source: str | Path, path: str | Path, size: tuple[int, int] | None = None, classes: str | None = None
) -> ModelCard:
    """Imports RF-DETR Seg; returns the model card. Arguments and errors as import_yolo; default classes are COCO's."""
    network = open_network(source, size)
    shapes = network.shapes
    missing = [name for name in ("dets", "labels", "masks") if name not in shapes]
    if missing == ["masks"]:
        raise InputError(f"{network.where}: detects boxes only and has no output masks; export RF-DETR Seg")
    if missing:
        raise InputError(
            f"{network.where}: lacks the output {missing[0]} of RF-DETR Seg (dets, labels, masks); {network.remedy}"
        )
    require_logits(network, "labels")
    require_logits(network, "masks")
    taxonomy = instance_classes(classes or "coco", network.metadata, network.where)
    columns = _label_columns(taxonomy, shapes["labels"][-1], network.where)

    def build(nodes: Nodes, outputs: Outputs) -> dict[str, Value]:
        queries = shapes["labels"][1]
        scores = outputs["labels"].reshape(queries, shapes["labels"][2]).take(columns, axis=1).sigmoid()
        best, kind = scores.max(1), scores.argmax(1).cast(INT64).reshape(queries)
        score, row = top_k(nodes, best, min(SLOTS, queries))
        masks = outputs["masks"].take(row, axis=1)
        return {"class_logits": class_logits(score, kind.take(row), len(taxonomy)), "mask_logits": masks}

    width, height = network.size
    spec = InputSpec(height, width, IMAGENET.mean, IMAGENET.std)
    card = _card(network, "RF-DETR Seg", taxonomy, spec)
    write_model(network, card, path, build)
    return card


def _card(network: Network, program: str, taxonomy: Taxonomy, spec: InputSpec) -> ModelCard:
    file = Path(network.where)
    source = source_json(program, file=file.name, terms=network.metadata.get("license", ""))
    return ModelCard(file.stem, taxonomy, spec, "sigmoid", THRESHOLDS, source)


def _label_columns(taxonomy: Taxonomy, labels: int, where: str) -> NDArray[np.int64]:
    """Columns of the class logits: by class id, as for COCO, or in order with one more for the background."""
    if labels == int(taxonomy.ids.max()) + 1:
        return taxonomy.ids.astype(np.int64)
    if labels == len(taxonomy) + 1:
        return np.arange(len(taxonomy))
    raise InputError(
        f"{where}: its output labels has {labels} columns, which do not fit {len(taxonomy)} class names; correct them "
        "with --classes"
    )


class YoloOutputs(NamedTuple):
    """The outputs of a YOLO network.

    Attributes:
        predictions: name of the output.
        prototypes: name of the output.
        layout: of the predictions.
        candidates: number of predictions.
        coefficients: number of prototypes.
        features: that embeddings are computed from; None: none.
    """

    predictions: str
    prototypes: str
    layout: YoloLayout
    candidates: int
    coefficients: int
    features: FeatureMap | None


def _yolo_outputs(network: Network, classes: int) -> YoloOutputs:
    """The outputs by their shapes; raises InputError when they are not those of YOLO with so many classes."""
    features = None
    if network.features is not None:
        features = feature_map(network.features, network.shapes[network.features], network.size, network.where)
    shapes = {name: shape for name, shape in network.shapes.items() if name != network.features}
    prototypes = [name for name, shape in shapes.items() if len(shape) == 4 and shape[0] == 1]
    predictions = [name for name, shape in shapes.items() if len(shape) == 3 and shape[0] == 1]
    if predictions and not prototypes:
        raise InputError(
            f"{network.where}: detects boxes only and has no mask prototypes ({network.outputs}); export a "
            "segmentation network, such as yolo11n-seg"
        )
    if not predictions or len(prototypes) != 1:
        raise InputError(
            f"{network.where}: its outputs ({network.outputs}) are not those of YOLO: predictions of three dimensions "
            f"and prototypes of four; {network.remedy}"
        )
    coefficients = shapes[prototypes[0]][1]
    layout = _yolo_layout(network, shapes[predictions[0]][1:], coefficients, classes)
    candidates = shapes[predictions[0]][2 if layout.transposed else 1]
    return YoloOutputs(predictions[0], prototypes[0], layout, candidates, coefficients, features)


def _require_scores(network: Network, found: YoloOutputs, classes: int) -> None:
    """Raises InputError when the scores are not probabilities."""
    values = network.values[found.predictions][0]
    first = 4
    last = 5 if found.layout is END_TO_END else found.layout.extra + classes
    scores = values[first:last] if found.layout.transposed else values[:, first:last]
    low, high = float(scores.min()), float(scores.max())
    if low < -SLACK or high > 1 + SLACK:
        raise InputError(
            f"{network.where}: its scores are from {low:.3g} to {high:.3g}, so logits instead of probabilities; export "
            "it with the program that trained it, which adds the sigmoid"
        )


def _yolo_layout(network: Network, shape: tuple[int, ...], coefficients: int, classes: int) -> YoloLayout:
    rows, columns = shape
    width, height = network.size
    cells = sum((width // s) * (height // s) for s in (8, 16, 32))
    if columns == 6 + coefficients and rows not in (cells, 3 * cells):
        # Only the metadata has the number of classes.
        layout, found = END_TO_END, len(metadata_names(network.metadata)) or classes
    elif columns == cells or rows == 4 + classes + coefficients:
        layout, found = V8, rows - 4 - coefficients
    elif rows == 3 * cells or columns == 5 + classes + coefficients:
        layout, found = V5, columns - 5 - coefficients
    else:
        raise InputError(
            f"{network.where}: predictions of shape {[1, rows, columns]} are of no known layout of YOLO with "
            f"{classes} classes and {coefficients} prototypes; {network.remedy}"
        )
    if found != classes:
        raise InputError(
            f"{network.where}: has {found} classes, and there are {classes} class names; correct them with --classes"
        )
    return layout


def _yolo_slots(nodes: Nodes, outputs: Outputs, found: YoloOutputs, classes: int) -> dict[str, Value]:
    """The outputs of the contract."""
    layout = found.layout
    predictions = outputs[found.predictions]
    if layout.transposed:
        predictions = predictions.apply("Transpose", perm=[0, 2, 1])
    scores_end = layout.extra + (0 if layout is END_TO_END else classes)
    width = scores_end + found.coefficients
    predictions = predictions.reshape(found.candidates, width)
    box, coefficients = _columns(predictions, 0, 4), _columns(predictions, scores_end, width)
    if layout is END_TO_END:
        kind = _columns(predictions, 5, 6).reshape(-1).cast(INT64)
        score, row = top_k(nodes, _columns(predictions, 4, 5).reshape(-1), min(SLOTS, found.candidates))
    else:
        scores = _columns(predictions, layout.extra, scores_end)
        if layout is V5:
            scores = scores * _columns(predictions, 4, 5)
        kind = nodes.op("ArgMax", scores, type=INT64, axis=1, keepdims=0)
        box = _corners(box)
        score, row = _suppressed(nodes, box, scores.max(1), kind, found, classes)
    made = {
        "class_logits": class_logits(score, kind.take(row), classes),
        "mask_kernels": coefficients.take(row).reshape(1, -1, found.coefficients),
        "mask_features": outputs[found.prototypes],
        "query_boxes": box.take(row).reshape(1, -1, 4),
    }
    if found.features is not None:
        masks = made["mask_kernels"], made["mask_features"]
        made["query_embeddings"] = pooled(found.features, outputs[found.features.name], *masks, made["query_boxes"])
    return made


def _columns(x: Value, start: int, end: int) -> Value:
    return x.part([start], [end], [1])


def _corners(box: Value) -> Value:
    """[n, 4] centre and size to x0, y0, x1, y1."""
    centre, half = _columns(box, 0, 2), _columns(box, 2, 4) * 0.5
    return (centre - half).followed_by(centre + half, axis=1)


def _suppressed(
    nodes: Nodes, box: Value, score: Value, kind: Value, found: YoloOutputs, classes: int
) -> tuple[Value, Value]:
    """Scores and rows of the SLOTS best candidates after non-maximum suppression within each class; score 0 for none.

    Only the best class of a candidate counts, as in Ultralytics' prediction.
    """
    most = min(CANDIDATES, found.candidates)
    score, candidate = top_k(nodes, score, most)
    box, kind = box.take(candidate).reshape(1, most, 4), kind.take(candidate)
    own = nodes.value(np.arange(classes)[None, :, None])
    of_class = kind.reshape(1, 1, most).equals(own).choose(score.reshape(1, 1, most), np.float32(0))
    kept = nodes.op(
        "NonMaxSuppression",
        box,
        of_class,
        np.array([SLOTS], np.int64),
        np.array([found.layout.iou], np.float32),
        np.array([LEAST_SCORE], np.float32),
        type=INT64,
    )
    row = kept.part([2], [3], [1]).reshape(-1)
    padded = score.take(row).followed_by(np.zeros(SLOTS, np.float32))
    row = row.followed_by(np.zeros(SLOTS, np.int64))
    best, place = top_k(nodes, padded, SLOTS)
    return best, candidate.take(row.take(place))


def top_k(nodes: Nodes, values: Value, count: int) -> tuple[Value, Value]:
    """The largest values of [n], descending, and their indices (int64)."""
    name = f"{nodes.prefix}TopK_{len(nodes.nodes)}"
    inputs = [values.name, nodes.value(np.array([count], np.int64)).name]
    nodes.nodes.append(helper.make_node("TopK", inputs, [f"{name}_values", f"{name}_indices"], name))
    return Value(nodes, f"{name}_values", values.type), Value(nodes, f"{name}_indices", INT64)


def class_logits(score: Value, kind: Value, classes: int) -> Value:
    """Logits [1, N, C + 1] whose softmax is the score [N] for the class [N], and the rest for void."""
    nodes = score.nodes
    score = score.reshape(1, -1, 1)
    p = nodes.op("Clip", score, np.float32(1e-6), np.float32(1 - 1e-6), type=FLOAT)
    own = kind.reshape(1, -1, 1).equals(nodes.value(np.arange(classes + 1)[None, None]))
    void = nodes.value(np.arange(classes + 1)[None, None] == classes)
    rest = void.choose((p * -1.0 + 1.0).apply("Log"), np.float32(NOTHING))
    return own.choose(p.apply("Log"), rest)
