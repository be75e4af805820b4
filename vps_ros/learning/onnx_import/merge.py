"""A model for things and a model for stuff as one model: one file, one session, one taxonomy.

Things are pasted over stuff by score and overlap (Panoptic FPN, Kirillov et al., 2019); pixels without either are void.
Both networks see the input of the merged model, resized to their own input size inside the graph.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import yaml
from onnx import compose

from vps_ros.errors import InputError
from vps_ros.learning.export.published import source_json
from vps_ros.learning.in_graph.nodes import FLOAT, INT64, UINT8, Nodes, Value, opset_of
from vps_ros.learning.onnx_import.class_names import plain
from vps_ros.learning.onnx_import.network import at_opset, finish, load
from vps_ros.learning.onnx_import.semantic import STUFF_AREA
from vps_ros.reading import read_yaml
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import VOID_ID, ClassInfo, Taxonomy

DEFAULT_SIZE = (1280, 720)
"""Width and height of the input: the shape of most cameras."""
STRIDE = 4
"""Pixels of the input per cell of the masks, as YOLO has. Half of it quadruples memory and adds 0.1 PQ or less."""
EDGE = 8.0
"""Mask logit of a cell inside of a region of a class map."""
CONFIDENCE = 12.0
_PARTS = ("things", "stuff")
_MAPS = ("mask_logits", "mask_features")
Table = dict[str, dict[str, str | None]]
"""Part -> class name of its model -> class name of the merged model, None for void."""


class Part(NamedTuple):
    """One of the two models."""

    where: str
    model: onnx.ModelProto
    card: ModelCard

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in self.model.graph.output}

    def outputs(self, nodes: Nodes, prefix: str) -> dict[str, Value]:
        """The outputs in a graph where the names of the part have this prefix."""
        outputs = self.model.graph.output
        return {o.name: Value(nodes, f"{prefix}/{o.name}", o.type.tensor_type.elem_type) for o in outputs}


def open_part(path: str | Path, kind: str) -> Part:
    """Opens a model that `vps-ros export` made; raises InputError when it is not one for `things` or `stuff`."""
    where = str(path)
    model = load(path)
    card = next((p.value for p in model.metadata_props if p.key == METADATA_KEY), None)
    if card is None:
        raise InputError(
            f"{where}: is not a model of vps-ros; export it first with --from "
            f"{'yolo or rfdetr' if kind == 'things' else 'semantic'}"
        )
    part = Part(where, model, ModelCard.from_json(card, where))
    limits, shapes = part.card.thresholds, part.shapes
    if kind == "things":
        fits = "segment_map" not in shapes and part.card.mask_activation == "sigmoid" and limits.mode == "mask_wise"
        fits &= bool(part.card.taxonomy.isthing.all())
        origin = "yolo or rfdetr"
    else:
        fits = "segment_map" in shapes or (
            part.card.mask_activation == "softmax_queries"
            and limits.mode == "pixel_wise"
            and shapes.get("class_logits", (0, 0))[1] == len(part.card.taxonomy)
        )
        origin = "semantic"
    if not fits:
        raise InputError(f"{where}: cannot be the model for {kind}; --merge takes one from --from {origin}")
    return part


def default_table(things: Taxonomy, stuff: Taxonomy) -> Table:
    """Joins classes with the same meaning.

    A thing takes the name of the class with the same meaning in the model for stuff. If that class is stuff there, the
    thing is left out (None): a class cannot be both. Things of the model for stuff are not used.
    """
    there = {plain(c.name): c for c in reversed(stuff.classes)}
    table: Table = {"things": {}, "stuff": {c.name: c.name for c in stuff.classes if not c.isthing}}
    for info in things.classes:
        same = there.get(plain(info.name))
        table["things"][info.name] = info.name if same is None else same.name if same.isthing else None
    return table


def read_table(path: str | Path, default: Table) -> Table:
    """A table from a YAML file; classes that it leaves out keep their default.

    Raises InputError when it names a class that a model does not have, or one class as both thing and stuff.
    """
    content = read_yaml(path, "the table that `vps-ros export --merge` prints")
    if not isinstance(content, dict) or not set(content) <= set(_PARTS):
        raise InputError(f"--map {path}: needs the entries things and stuff, as `vps-ros export --merge` prints them")
    table: Table = {}
    for part in _PARTS:
        given = content.get(part) or {}
        if not isinstance(given, dict):
            raise InputError(f"--map {path}: {part} is not a mapping of class names")
        for name in given:
            if name not in default[part]:
                known = ", ".join(list(default[part])[:5])
                raise InputError(f"--map {path}: {part} has no class {name!r}; there are {known}, ...")
        table[part] = {**default[part], **{str(k): None if v is None else str(v) for k, v in given.items()}}
    return table


def table_text(table: Table) -> str:
    """The table as YAML, for `read_table`."""
    return yaml.safe_dump(table, sort_keys=False, allow_unicode=True)


def merged_taxonomy(things: Taxonomy, stuff: Taxonomy, table: Table) -> Taxonomy:
    """The classes of the merged model: ids and colours of the model for stuff, then new ids for other things.

    Raises InputError when a class is both thing and stuff, or there is no stuff.
    """
    targets = {part: [t for t in table[part].values() if t is not None] for part in _PARTS}
    both = set(targets["things"]) & set(targets["stuff"])
    if both:
        raise InputError(
            f"class {min(both)!r} is both thing and stuff in the table; give one of them another name or null (--map)"
        )
    if not targets["stuff"]:
        raise InputError("the table leaves out every class of stuff; give at least one a name (--map)")
    known = {c.name: c for c in stuff.classes}
    own = {c.name: c for c in things.classes}
    used = {known[t].id for t in (*targets["stuff"], *targets["things"]) if t in known}
    taken = {VOID_ID, *(c.id for c in stuff.classes)}
    free = (i for i in itertools.count() if i not in taken)
    classes: dict[str, ClassInfo] = {}
    for part in ("stuff", "things"):
        for name, target in table[part].items():
            if target is None or target in classes:
                continue
            like = known.get(target) or own.get(target) or own.get(name) or known[name]
            number = known[target].id if target in known else next(free)
            classes[target] = ClassInfo(number, target, part == "things", like.color)
    name = stuff.name if {c.id for c in classes.values()} <= used else f"{stuff.name}+{things.name}"
    return Taxonomy(name, tuple(sorted(classes.values(), key=lambda c: c.id)))


def merge(things: Part, stuff: Part, table: Table, path: str | Path, size: tuple[int, int] | None = None) -> ModelCard:
    """Writes the merged model; returns its card.

    Args:
        size: width and height of its input, which should have the shape of the camera image.

    Raises InputError when the table does not fit, or ONNX Runtime cannot run the model.
    """
    taxonomy = merged_taxonomy(things.card.taxonomy, stuff.card.taxonomy, table)
    width, height = size or DEFAULT_SIZE
    spec = InputSpec(height, width, (0.0,) * 3, (255.0,) * 3, True, fill=things.card.input.padding)
    opset = max(opset_of(things.model), opset_of(stuff.model))
    before, after = Nodes(opset, "resize/"), Nodes(opset, "merge/")
    image = Value(before, "image", UINT8).cast(FLOAT).apply("Transpose", perm=[0, 3, 1, 2])
    models, rows = [], []
    for part, kind, read in ((things, "things", _thing_rows), (stuff, "stuff", _stuff_rows)):
        fitted = _fitted(part, (height, width))
        model = at_opset(part.model, opset, part.where)
        _feed(before, image, part.card.input, fitted, f"{kind}/image")
        models.append(compose.add_prefix(model, f"{kind}/"))
        rows.append(_placed(read(after, part, table[kind], taxonomy), fitted, (height, width)))
    made = _outputs(rows[0], rows[1], (height, width))
    card = ModelCard(
        f"{things.card.name}+{stuff.card.name}",
        taxonomy,
        spec,
        "sigmoid",
        _thresholds(things.card, spec),
        _source(things, stuff),
    )
    finish(_joined(models, opset), card, path, before, after, made)
    return card


def _thresholds(things: ModelCard, spec: InputSpec) -> Thresholds:
    return dataclasses.replace(
        things.thresholds,
        stuff=0.5,
        things_first=True,
        stuff_overlap=False,
        drop_void=False,
        stuff_area=round(spec.width * spec.height * STUFF_AREA),
    )


def _source(things: Part, stuff: Part) -> str:
    terms, parts = [], {}
    for kind, part in (("things", things), ("stuff", stuff)):
        try:
            parts[kind] = json.loads(part.card.source)
        except json.JSONDecodeError:
            parts[kind] = {"source": part.card.source}
        if isinstance(parts[kind], dict) and parts[kind].get("terms"):
            terms.append(f"{kind}: {parts[kind]['terms']}")
    return source_json("merged models", terms="; ".join(terms), **parts)


def _joined(models: list[onnx.ModelProto], opset: int) -> onnx.ModelProto:
    """One model with the nodes of both, without connections between them."""
    first, second = models
    domains = {o.domain: o.version for model in models for o in model.opset_import}
    domains[""] = opset
    graph = onnx.helper.make_graph(
        [*first.graph.node, *second.graph.node],
        "merged",
        [],
        [],
        [*first.graph.initializer, *second.graph.initializer],
    )
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in domains.items()]
    version = max(model.ir_version for model in models)
    return onnx.helper.make_model(
        graph, opset_imports=imports, ir_version=version, functions=[*first.functions, *second.functions]
    )


class Fitted(NamedTuple):
    """Where the merged input lies in the input of a part: at the upper left, height and width in pixels."""

    resized: tuple[int, int]
    input: tuple[int, int]


def _fitted(part: Part, size: tuple[int, int]) -> Fitted:
    spec = part.card.input
    own = (spec.height, spec.width)
    if not spec.keep_aspect:
        return Fitted(own, own)
    scale = min(spec.height / size[0], spec.width / size[1])
    # Multiples of a cell of the masks, so that the padding can be cut off exactly.
    cells = next((part.shapes[name][2:] for name in _MAPS if name in part.shapes), own)
    steps = [max(1, own[i] // cells[i]) for i in (0, 1)]
    height, width = (min(max(round(size[i] * scale / steps[i]), 1) * steps[i], own[i]) for i in (0, 1))
    return Fitted((height, width), own)


def _feed(nodes: Nodes, image: Value, spec: InputSpec, fitted: Fitted, name: str) -> None:
    """Resizes and pads the image [1, 3, H, W] for the input `name` of a part, uint8 [1, h, w, 3]."""
    height, width = fitted.resized
    sizes = np.array([1, 3, height, width], np.int64)
    x = nodes.op("Resize", image, None, None, sizes, type=FLOAT, mode="linear")
    x = nodes.op("Clip", x.apply("Round"), np.float32(0), np.float32(255), type=FLOAT)
    x = x.apply("Transpose", perm=[0, 2, 3, 1])
    if fitted.resized != fitted.input:
        fill = np.float32(spec.padding)
        below, right = fitted.input[0] - height, fitted.input[1] - width
        pads = np.array([0, 0, 0, 0, 0, below, right, 0], np.int64)
        # Padding has one value for all channels: the difference from the colour of the padding is padded with 0.
        x = nodes.op("Pad", x - nodes.value(fill), pads, np.float32(0), type=FLOAT) + nodes.value(fill)
    nodes.nodes.append(onnx.helper.make_node("Identity", [x.cast(UINT8).name], [name], f"{name}_in"))


class Rows(NamedTuple):
    """The rows of the merged class and mask logits that come from one part.

    Attributes:
        classes: [1, N, C + 1].
        maps: [1, D, h, w]: mask logits where `kernels` is None, otherwise mask features.
        shape: of the maps, (D, h, w).
        kernels: [1, N, D].
        boxes: [1, N, 4] in pixels of the part's input.
        embeddings: [1, N, E].
    """

    classes: Value
    maps: Value
    shape: tuple[int, int, int]
    kernels: Value | None = None
    boxes: Value | None = None
    embeddings: Value | None = None


def _thing_rows(nodes: Nodes, part: Part, names: Mapping[str, str | None], taxonomy: Taxonomy) -> Rows:
    """One row for each query.

    Args:
        names: class name of the part -> class name of the merged model, None for void.
        taxonomy: of the merged model.
    """
    outputs, own = part.outputs(nodes, "things"), part.card.taxonomy.classes
    column = {c.name: i for i, c in enumerate(taxonomy.classes)}
    matrix = np.zeros((len(own) + 1, len(taxonomy) + 1), np.float32)
    matrix[-1, -1] = 1
    for row, info in enumerate(own):
        target = names[info.name]
        matrix[row, -1 if target is None else column[target]] = 1
    p = outputs["class_logits"].cast(FLOAT).apply("Softmax", axis=-1)
    classes = nodes.op("MatMul", p, matrix, type=FLOAT)
    classes = nodes.op("Max", classes, np.float32(1e-9), type=FLOAT).apply("Log")
    name = next(name for name in _MAPS if name in outputs)
    optional = (outputs.get(name) for name in ("mask_kernels", "query_boxes", "query_embeddings"))
    _, channels, h, w = part.shapes[name]
    return Rows(classes, outputs[name], (channels, h, w), *optional)


def _stuff_rows(nodes: Nodes, part: Part, names: Mapping[str, str | None], taxonomy: Taxonomy) -> Rows:
    """One row for each class, whose mask logit is positive where the class is the most probable one. As _thing_rows."""
    outputs, own = part.outputs(nodes, "stuff"), part.card.taxonomy.classes
    column = {c.name: i for i, c in enumerate(taxonomy.classes)}
    targets = sorted({t for t in names.values() if t is not None}, key=column.__getitem__)
    members = [[i for i, c in enumerate(own) if names.get(c.name) == t and not c.isthing] for t in targets]
    logits = np.zeros((1, len(targets), len(taxonomy) + 1), np.float32)
    for row, target in enumerate(targets):
        logits[0, row, column[target]] = CONFIDENCE
    if "segment_map" in outputs:
        h, w = part.shapes["segment_map"][1:]
        table = np.full(256, len(targets), np.int32)
        for row, columns in enumerate(members):
            table[columns] = row
        owner = nodes.value(table).take(outputs["segment_map"].cast(INT64)).reshape(1, 1, h, w)
        inside = owner.equals(nodes.value(np.arange(len(targets), dtype=np.int32).reshape(1, -1, 1, 1)))
        maps = inside.choose(np.float32(EDGE), np.float32(-EDGE))
    else:
        h, w = part.shapes["mask_logits"][2:]
        scores, rows = outputs["mask_logits"].cast(FLOAT), []
        for columns in members:
            others = [i for i in range(len(own)) if i not in columns]
            best = scores.take(np.array(columns), axis=1).max(1, keep=True)
            rows.append(best - scores.take(np.array(others), axis=1).max(1, keep=True) if others else best)
        maps = rows[0].followed_by(*rows[1:], axis=1) if len(rows) > 1 else rows[0]
    return Rows(nodes.value(logits), maps, (len(targets), h, w))


def _placed(rows: Rows, fitted: Fitted, size: tuple[int, int]) -> Rows:
    """The rows with boxes in pixels of the merged input, of this height and width, and maps on its grid of cells."""
    (height, width), covered, boxes = size, fitted.resized, rows.boxes
    if boxes is not None:
        x, y = width / covered[1], height / covered[0]
        boxes = boxes * boxes.nodes.value(np.array([x, y, x, y], np.float32))
    count, *cells = rows.shape
    inside = [n * part // of for n, part, of in zip(cells, covered, fitted.input, strict=True)]
    maps = rows.maps.cast(FLOAT)
    if inside != cells:
        maps = maps.part([0, 0], inside, [2, 3])
    sizes = np.array([1, count, -(-height // STRIDE), -(-width // STRIDE)], np.int64)
    maps = maps.nodes.op("Resize", maps, None, None, sizes, type=FLOAT, mode="linear")
    return rows._replace(maps=maps, boxes=boxes)


def _outputs(things: Rows, stuff: Rows, size: tuple[int, int]) -> dict[str, Value]:
    """The outputs of the merged model, whose input has this height and width."""
    made = {"class_logits": things.classes.followed_by(stuff.classes, axis=1)}
    maps, nodes = things.maps.followed_by(stuff.maps, axis=1), things.maps.nodes
    channels, more = things.shape[0], stuff.shape[0]
    if things.kernels is None:
        made["mask_logits"] = maps
    else:
        # The features of the parts are behind each other; the kernel of stuff selects one.
        own = nodes.op("Pad", things.kernels, np.array([0, 0, 0, 0, 0, more]), np.float32(0), type=FLOAT)
        others = np.eye(more, channels + more, channels, dtype=np.float32)[None]
        made["mask_features"], made["mask_kernels"] = maps, own.followed_by(others, axis=1)
    if things.boxes is not None:
        image = np.array([0, 0, size[1], size[0]], np.float32)
        made["query_boxes"] = things.boxes.followed_by(np.tile(image, (1, more, 1)), axis=1)
    if things.embeddings is not None:
        pads = np.array([0, 0, 0, 0, more, 0])
        made["query_embeddings"] = nodes.op("Pad", things.embeddings, pads, np.float32(0), type=FLOAT)
    return made
