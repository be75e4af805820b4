"""What an ONNX file of another program is, by the shapes of its tensors, and the command that imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Shape = Sequence[int | str | None]
"""As ONNX Runtime gives it: names or None for sizes that are not fixed."""
_STRIDES = (8, 16, 32)
_OWN = {"class_logits", "segment_map"}
"""Outputs of our own models, one of which each has."""
_QUERIES = ({"class_queries_logits", "masks_queries_logits"}, {"logits", "pred_masks"})
"""Outputs of networks that transformers (optimum) exported."""


class NetworkOutput(NamedTuple):
    """Shape, empty where it is unknown, and whether the values are integers."""

    shape: Shape
    integer: bool


def import_command(image: Shape, outputs: Mapping[str, NetworkOutput], metadata: Mapping[str, str], where: str) -> str:
    """What the network is, and the next command, as the end of a sentence.

    Args:
        image: shape of its input.
        where: path of the file.
    """
    shapes = {name: output.shape for name, output in outputs.items() if output.shape}
    command = f"vps-ros export --from {{}} {where} -o OUT.onnx"
    if _OWN & set(outputs):
        return (
            "its outputs are those of a model of this package, whose metadata is missing; export it again with "
            "`vps-ros export`, or add the metadata (docs/models.md, The model file)"
        )
    if {"dets", "labels"} <= set(outputs):
        if "masks" not in outputs:
            return "it looks like RF-DETR without masks, which detects boxes only; export RF-DETR Seg instead"
        return f"it looks like RF-DETR Seg; import it with `{command.format('rfdetr')}`"
    if any(names <= set(outputs) for names in _QUERIES):
        return "it looks like a network of transformers; import its checkpoint with `vps-ros export --from hf FOLDER`"
    layout = _yolo(image, outputs, metadata)
    if layout == "boxes":
        return (
            "it looks like YOLO without masks, which detects boxes only; export a network such as yolo11n-seg instead"
        )
    if layout:
        names = "" if "names" in metadata else " --classes FILE"
        return f"it looks like {layout} with masks; import it with `{command.format('yolo')}{names}`"
    for name, shape in shapes.items():
        if len(shape) == 4 or (len(shape) == 3 and outputs[name].integer):
            kind = _semantic(shape, _rows_and_columns(image))
            return f"it looks like {kind}; import it with `{command.format('semantic')} --classes NAME|FILE`"
    listed = ", ".join(f"{name} {list(output.shape)}" for name, output in outputs.items())
    return (
        f"its outputs ({listed}) are of no layout that can be imported: YOLO with masks, RF-DETR Seg, or semantic "
        "segmentation; `vps-ros export --help` shows all sources"
    )


def finds_instances(image: Shape, outputs: Mapping[str, NetworkOutput], metadata: Mapping[str, str]) -> bool:
    """Whether the network looks like YOLO or RF-DETR, with or without masks; arguments as of `import_command`."""
    return {"dets", "labels"} <= set(outputs) or bool(_yolo(image, outputs, metadata))


def _rows_and_columns(image: Shape) -> Shape:
    """The shape of an input without channels that are last: height and width are then last."""
    return image[:-1] if image and image[-1] == 3 else image


def _yolo(image: Shape, outputs: Mapping[str, NetworkOutput], metadata: Mapping[str, str]) -> str:
    """Name of the layout of YOLO, "boxes" for one without masks, "" for other networks."""
    image = _rows_and_columns(image)
    shapes = [output.shape for output in outputs.values() if not output.integer]
    rows = [shape for shape in shapes if len(shape) == 3]
    prototypes = [shape[1] for shape in shapes if len(shape) == 4]
    if not rows:
        return ""
    _, first, last = rows[0]
    if prototypes and isinstance(prototypes[0], int):
        if last == 6 + prototypes[0]:
            return "YOLO v10 or v26"
        # Of v8, the candidates are last; their number depends on the size of the image.
        candidates_last = isinstance(first, int) and (not isinstance(last, int) or last > first)
        return "YOLO v8 to v12" if candidates_last else "YOLO v5 or v7"
    if prototypes:
        return ""
    sides: list[Any] = [n for n in image[-2:] if isinstance(n, int)]
    cells = sum((sides[0] // s) * (sides[1] // s) for s in _STRIDES) if len(sides) == 2 else 0
    known = metadata.get("task") == "detect" or "stride" in metadata or last == 6
    return "boxes" if known or (cells and (last == cells or first == 3 * cells)) else ""


def _semantic(shape: Shape, image: Shape) -> str:
    if len(shape) == 3 or 1 in (shape[1], shape[3]):
        return "a class map of semantic segmentation"
    if not all(isinstance(n, int) for n in (*shape[1:], *image[1:])):
        return "semantic segmentation"
    _, channels, rows, columns = (int(n or 0) for n in shape)
    # With the classes last, the third size is that of the columns of the map.
    of_image = int(image[-2] or 0) * columns == int(image[-1] or 0) * rows
    return f"semantic segmentation with {channels if of_image else columns} classes"
