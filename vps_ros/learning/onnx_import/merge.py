"""A model for things and a model for stuff as one model: one file, one session, one taxonomy.

Things are pasted over stuff by score and overlap (Panoptic FPN, Kirillov et al., 2019); pixels without either are void.
Both networks see the input of the merged model, resized to their own input size inside the graph.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import yaml
from onnx import compose

from vps_ros.errors import InputError
from vps_ros.learning.export.published import source_json
from vps_ros.learning.in_graph.nodes import FLOAT, INT64, UINT8, Nodes, Value
from vps_ros.learning.onnx_import.class_names import plain
from vps_ros.learning.onnx_import.network import at_opset, finish, load, opset_of
from vps_ros.learning.onnx_import.semantic import STUFF_AREA
from vps_ros.reading import read_yaml
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import MAX_CLASS_ID, ClassInfo, Taxonomy

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

    Raises InputError when a class is both thing and stuff, or there is none.
    """
    targets = {part: [t for t in table[part].values() if t is not None] for part in _PARTS}
    both = set(targets["things"]) & set(targets["stuff"])
    if both:
        raise InputError(
            f"class {min(both)!r} is both thing and stuff in the table; give one of them another name or null (--map)"
        )
    known = {c.name: c for c in stuff.classes}
    own = {c.name: c for c in things.classes}
    used = {known[t].id for t in (*targets["stuff"], *targets["things"]) if t in known}
    free = (i for i in range(MAX_CLASS_ID + 1) if i not in {c.id for c in stuff.classes})
    classes: dict[str, ClassInfo] = {}
    for part in ("stuff", "things"):
        for name, target in table[part].items():
            if target is None or target in classes:
                continue
            like = known.get(target) or own.get(target) or own.get(name) or known[name]
            number = known[target].id if target in known else next(free)
            classes[target] = ClassInfo(number, target, part == "things", like.color)
    if not classes:
        raise InputError("the table leaves out every class; give at least one a name (--map)")
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
    grid = (-(-height // STRIDE), -(-width // STRIDE))
    opset = max(opset_of(things.model), opset_of(stuff.model))
    before, after = Nodes(opset, "resize/"), Nodes(opset, "merge/")
    image = Value(before, "image", UINT8).cast(FLOAT).apply("Transpose", perm=[0, 3, 1, 2])
    models, pieces = [], []
    for part, kind in ((things, "things"), (stuff, "stuff")):
        fitted = _fitted(part, (height, width))
        model = at_opset(part.model, opset, part.where)
        _feed(before, image, part.card.input, fitted, f"{kind}/image")
        models.append(compose.add_prefix(model, f"{kind}/"))
        outputs = {o.name: Value(after, f"{kind}/{o.name}", o.type.tensor_type.elem_type) for o in model.graph.output}
        rows = _Reader(after, part, outputs, fitted, (height, width), grid, table[kind], taxonomy)
        pieces.append(rows.of_things() if kind == "things" else rows.of_stuff())
    rows_of_things, rows_of_stuff = pieces
    made = _outputs(rows_of_things, rows_of_stuff, (height, width))
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
    terms = []
    parts = {}
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
    whole = (spec.height, spec.width)
    if not spec.keep_aspect:
        return Fitted(whole, whole)
    scale = min(spec.height / size[0], spec.width / size[1])
    # Whole cells of the masks, so that they can be cut off exactly.
    cells = next((part.shapes[name][2:] for name in _MAPS if name in part.shapes), whole)
    steps = [max(1, whole[i] // cells[i]) for i in (0, 1)]
    height, width = (min(max(round(size[i] * scale / steps[i]), 1) * steps[i], whole[i]) for i in (0, 1))
    return Fitted((height, width), whole)


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
        channels: the number D.
        kernels: [1, N, D].
        boxes: [1, N, 4] in pixels of the merged input.
        embeddings: [1, N, E].
    """

    classes: Value
    maps: Value
    channels: int
    kernels: Value | None = None
    boxes: Value | None = None
    embeddings: Value | None = None


def _outputs(things: Rows, stuff: Rows, size: tuple[int, int]) -> dict[str, Value]:
    """The outputs of the merged model, whose input has this height and width."""
    made = {"class_logits": things.classes.followed_by(stuff.classes, axis=1)}
    maps, nodes = things.maps.followed_by(stuff.maps, axis=1), things.maps.nodes
    if things.kernels is None:
        made["mask_logits"] = maps
    else:
        # The features of the parts are behind each other; the kernel of stuff selects one.
        own = nodes.op("Pad", things.kernels, np.array([0, 0, 0, 0, 0, stuff.channels]), np.float32(0), type=FLOAT)
        others = np.eye(stuff.channels, things.channels + stuff.channels, things.channels, dtype=np.float32)[None]
        made["mask_features"], made["mask_kernels"] = maps, own.followed_by(others, axis=1)
    if things.boxes is not None:
        image = np.array([0, 0, size[1], size[0]], np.float32)
        made["query_boxes"] = things.boxes.followed_by(np.tile(image, (1, stuff.channels, 1)), axis=1)
    if things.embeddings is not None:
        pads = np.array([0, 0, 0, 0, stuff.channels, 0])
        made["query_embeddings"] = nodes.op("Pad", things.embeddings, pads, np.float32(0), type=FLOAT)
    return made


@dataclass(frozen=True)
class _Reader:
    """Makes the rows of the merged class and mask logits that come from one part.

    Attributes:
        nodes: where nodes are added.
        outputs: of the part, by name.
        size: height and width of the merged input.
        grid: height and width of the merged masks.
        names: class name of the part -> class name of the merged model, None for void.
        taxonomy: of the merged model.
    """

    nodes: Nodes
    part: Part
    outputs: Mapping[str, Value]
    fitted: Fitted
    size: tuple[int, int]
    grid: tuple[int, int]
    names: Mapping[str, str | None]
    taxonomy: Taxonomy

    def of_things(self) -> Rows:
        column = {c.name: i for i, c in enumerate(self.taxonomy.classes)}
        own = self.part.card.taxonomy.classes
        matrix = np.zeros((len(own) + 1, len(self.taxonomy) + 1), np.float32)
        matrix[-1, -1] = 1
        for row, info in enumerate(own):
            target = self.names[info.name]
            matrix[row, -1 if target is None else column[target]] = 1
        p = self.outputs["class_logits"].cast(FLOAT).apply("Softmax", axis=-1)
        classes = self.nodes.op("MatMul", p, matrix, type=FLOAT)
        classes = self.nodes.op("Max", classes, np.float32(1e-9), type=FLOAT).apply("Log")
        name = next(name for name in _MAPS if name in self.outputs)
        shape = self.part.shapes[name]
        optional = ("mask_kernels", "query_boxes", "query_embeddings")
        kernels, boxes, embeddings = (self.outputs.get(name) for name in optional)
        if boxes is not None:
            height, width = (own / fitted for own, fitted in zip(self.size, self.fitted.resized, strict=True))
            boxes = boxes * self.nodes.value(np.array([width, height, width, height], np.float32))
        return Rows(classes, self._to_grid(self.outputs[name].cast(FLOAT), shape), shape[1], kernels, boxes, embeddings)

    def of_stuff(self) -> Rows:
        """One row for each class, whose mask logit is positive where the class is the most probable one."""
        nodes, outputs, own = self.nodes, self.outputs, self.part.card.taxonomy.classes
        column = {c.name: i for i, c in enumerate(self.taxonomy.classes)}
        targets = sorted({t for t in self.names.values() if t is not None}, key=column.__getitem__)
        members = [
            [i for i, c in enumerate(own) if self.names.get(c.name) == target and not c.isthing] for target in targets
        ]
        logits = np.zeros((1, len(targets), len(self.taxonomy) + 1), np.float32)
        for row, target in enumerate(targets):
            logits[0, row, column[target]] = CONFIDENCE
        if "segment_map" in outputs:
            h, w = self.part.shapes["segment_map"][1:]
            table = np.full(256, len(targets), np.int32)
            for row, columns in enumerate(members):
                table[columns] = row
            owner = nodes.value(table).take(outputs["segment_map"].cast(INT64)).reshape(1, 1, h, w)
            inside = owner.equals(nodes.value(np.arange(len(targets), dtype=np.int32).reshape(1, -1, 1, 1)))
            maps = inside.choose(np.float32(EDGE), np.float32(-EDGE))
        else:
            h, w = self.part.shapes["mask_logits"][2:]
            scores = outputs["mask_logits"].cast(FLOAT)
            rows = []
            for columns in members:
                others = [i for i in range(len(own)) if i not in columns]
                best = scores.take(np.array(columns), axis=1).max(1, keep=True)
                rows.append(best - scores.take(np.array(others), axis=1).max(1, keep=True) if others else best)
            maps = rows[0].followed_by(*rows[1:], axis=1) if len(rows) > 1 else rows[0]
        return Rows(nodes.value(logits), self._to_grid(maps, (1, len(targets), h, w)), len(targets))

    def _to_grid(self, maps: Value, shape: tuple[int, ...]) -> Value:
        """Mask logits [1, N, h, w] of the part, on the cells of the merged masks."""
        count, (h, w) = shape[1], shape[2:]
        resized, whole = self.fitted
        inside = (h * resized[0] // whole[0], w * resized[1] // whole[1])
        if inside != (h, w):
            maps = maps.part([0, 0], list(inside), [2, 3])
        sizes = np.array([1, count, *self.grid], np.int64)
        return self.nodes.op("Resize", maps, None, None, sizes, type=FLOAT, mode="linear")
