"""Masks to annotation tools and back, with identities: CVAT's XML for images and for video, and COCO's JSON.

CVAT (documentation of its formats "CVAT for images 1.1" and "CVAT for video 1.1"): a mask is a box and the lengths of
alternating runs along its rows, the first of background. The identity of an object is the attribute `track_id` of its
masks, 0 for stuff. COCO (see vps_ros.datasets.rle): masks by run length, with a member `track_id`.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets import rle
from vps_ros.datasets.class_mapping import normalized_name
from vps_ros.datasets.labels import LabelMap, listed
from vps_ros.errors import InputError
from vps_ros.files import write_json
from vps_ros.labelling.edits import CODE, LayerFrame
from vps_ros.labelling.project import Project
from vps_ros.labelling.segments import codes_of, described, rows_of
from vps_ros.reading import JsonValue, load_json
from vps_ros.taxonomy import VOID_ID, Taxonomy

ANNOTATIONS = "annotations.xml"
COCO = "instances.json"


class Shape(NamedTuple):
    """One mask of a frame.

    Attributes:
        label: name of its class.
        track: identity, 0 for stuff and for objects without one.
        order: of several masks at a pixel, the one with the highest order is seen.
        mask: bool [H, W].
        where: its place in the file, for errors.
    """

    label: str
    track: int
    order: int
    mask: NDArray[np.bool_]
    where: str


def shapes_of(labels: LabelMap, taxonomy: Taxonomy, frame: int) -> Iterator[Shape]:
    """The masks of the stuff and of the objects of a frame."""
    codes = codes_of(labels)
    for code in np.unique(codes).tolist():
        class_id, track = divmod(code, CODE)
        if class_id != VOID_ID:
            yield Shape(taxonomy.class_name(class_id), track, int(track > 0), codes == code, f"frame {frame}")


def write_cvat_images(root: Path, taxonomy: Taxonomy, frames: Iterable[tuple[int, LabelMap]]) -> None:
    """annotations.xml of a task made of the images FRAME.jpg; cvat-labels.json for the task's constructor of labels."""
    top, _ = _cvat(taxonomy, "annotation")
    for place, (frame, labels) in enumerate(frames):
        height, width = labels.semantic.shape
        image = ElementTree.SubElement(
            top, "image", id=str(place), name=f"{frame:06d}.jpg", width=str(width), height=str(height)
        )
        for shape in shapes_of(labels, taxonomy, frame):
            mask = ElementTree.SubElement(image, "mask", {"label": shape.label, "source": "file", **_cvat_mask(shape)})
            ElementTree.SubElement(mask, "attribute", name="track_id").text = str(shape.track)
    _write_cvat(root, top, taxonomy)


def write_cvat_video(root: Path, taxonomy: Taxonomy, frames: Iterable[tuple[int, LabelMap]]) -> None:
    """annotations.xml of a task made of all images in order, or of the video; a track of one frame for each mask.

    CVAT has no tracks of masks: it keeps the first mask of a track only, and writes each mask as a track of one frame,
    which ends in the next frame with `outside`.
    """
    top, task = _cvat(taxonomy, "interpolation")
    size = ElementTree.SubElement(task, "original_size")
    for frame, labels in frames:
        if not len(size):
            for name, value in zip(("height", "width"), labels.semantic.shape, strict=True):
                ElementTree.SubElement(size, name).text = str(value)
        for shape in shapes_of(labels, taxonomy, frame):
            track = ElementTree.SubElement(top, "track", id=str(len(top) - 2), label=shape.label, source="file")
            for number, outside in ((frame, "0"), (frame + 1, "1")):
                seen = {"frame": str(number), "keyframe": "1", "outside": outside}
                mask = ElementTree.SubElement(track, "mask", {**seen, **_cvat_mask(shape)})
                ElementTree.SubElement(mask, "attribute", name="track_id").text = str(shape.track)
    _write_cvat(root, top, taxonomy)


def _cvat(taxonomy: Taxonomy, mode: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    """The document with its labels, and its element `task`."""
    top = ElementTree.Element("annotations")
    ElementTree.SubElement(top, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(top, "meta"), "task")
    ElementTree.SubElement(task, "mode").text = mode
    labels = ElementTree.SubElement(task, "labels")
    for label in _constructor(taxonomy):
        one = ElementTree.SubElement(labels, "label")
        for name in ("name", "color", "type"):
            ElementTree.SubElement(one, name).text = label[name]
        attribute = ElementTree.SubElement(ElementTree.SubElement(one, "attributes"), "attribute")
        for name, value in (("name", "track_id"), ("mutable", "False"), ("input_type", "number"),
                            ("default_value", "0"), ("values", f"0\n{CODE - 1}\n1")):  # fmt: skip
            ElementTree.SubElement(attribute, name).text = value
    return top, task


def _constructor(taxonomy: Taxonomy) -> list[dict]:
    """What the raw constructor of labels in CVAT takes."""
    attribute = {"name": "track_id", "mutable": False, "input_type": "number", "default_value": "0",
                 "values": ["0", str(CODE - 1), "1"]}  # fmt: skip
    return [
        {"name": c.name, "color": "#{:02x}{:02x}{:02x}".format(*c.color), "type": "mask", "attributes": [attribute]}
        for c in taxonomy.classes
    ]


def _cvat_mask(shape: Shape) -> dict[str, str]:
    y, x = np.nonzero(shape.mask)
    top, left, bottom, right = int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1
    inside = shape.mask[top:bottom, left:right].reshape(-1)
    edges = np.flatnonzero(np.diff(inside.astype(np.int8))) + 1
    lengths = np.diff(np.concatenate(([0], edges, [inside.size]))).tolist()
    runs = [0, *lengths] if inside[0] else lengths
    return {
        "occluded": "0", "rle": ", ".join(map(str, runs)), "left": str(left), "top": str(top),
        "width": str(right - left), "height": str(bottom - top), "z_order": str(shape.order),
    }  # fmt: skip


def _write_cvat(root: Path, top: ElementTree.Element, taxonomy: Taxonomy) -> None:
    ElementTree.indent(top)
    ElementTree.ElementTree(top).write(root / ANNOTATIONS, encoding="utf-8", xml_declaration=True)
    write_json(root / "cvat-labels.json", _constructor(taxonomy))


def write_coco(root: Path, taxonomy: Taxonomy, frames: Iterable[tuple[int, LabelMap]]) -> None:
    """instances.json: objects and stuff with compressed run lengths and `track_id`."""
    images: list[dict] = []
    annotations: list[dict] = []
    ids = {c.name: c.id for c in taxonomy.classes}
    for frame, labels in frames:
        height, width = labels.semantic.shape
        images.append({"id": frame, "file_name": f"{frame:06d}.jpg", "width": width, "height": height})
        for shape in shapes_of(labels, taxonomy, frame):
            _, (area,), ((x0, y0, x1, y1),) = described(shape.mask.astype(np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame,
                    # COCO's categories count from 1.
                    "category_id": ids[shape.label] + 1,
                    "segmentation": rle.from_mask(shape.mask).to_json(),
                    "area": int(area),
                    "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                    "iscrowd": 0,
                    "track_id": shape.track,
                    # CVAT keeps what is in `attributes`.
                    "attributes": {"track_id": shape.track},
                }
            )
    categories = [{"id": c.id + 1, "name": c.name, "isthing": int(c.isthing)} for c in taxonomy.classes]
    write_json(root / COCO, {"images": images, "annotations": annotations, "categories": categories})


def read_shapes(path: Path, size: tuple[int, int]) -> dict[int, list[Shape]]:
    """Frame -> its masks, of a file that these functions or the tools wrote: .xml, .zip with annotations.xml, or .json.

    Args:
        size: width and height of the images.

    Raises InputError that names the place in the file that is wrong.
    """
    if path.suffix.lower() == ".json":
        return _read_coco(load_json(path, "give annotations of COCO or CVAT"), size)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                data = archive.read(ANNOTATIONS)
        else:
            data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give annotations of CVAT (.xml, .zip) or COCO (.json)") from None
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: holds no {ANNOTATIONS} ({error}); export as CVAT for images or for video") from None
    # Entities could make a small file fill the memory.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError(f"{path}: declares a document type, which CVAT does not write")
    try:
        top = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: is not complete XML ({error}); export it again") from None
    return _read_cvat(path, top, size)


def _read_cvat(path: Path, top: ElementTree.Element, size: tuple[int, int]) -> dict[int, list[Shape]]:
    found: dict[int, list[Shape]] = {}
    for image in top.iter("image"):
        name = Path(image.get("name", "")).stem
        where = f"{path}: image {image.get('name')}"
        if not name.isdecimal():
            raise InputError(f"{where}: is not named by a frame number, such as 000010.jpg")
        if (mine := (image.get("width"), image.get("height"))) != tuple(map(str, size)):
            raise InputError(f"{where}: is {mine[0]}x{mine[1]}, the images of the project are {size[0]}x{size[1]}")
        shapes = [_cvat_shape(s, s.get("label", ""), f"{where}, shape {i}", size) for i, s in enumerate(image)]
        found[int(name)] = [s for s in shapes if s]
    for track in top.iter("track"):
        where = f"{path}: track {track.get('id')}"
        for element in track:
            if element.get("outside") == "1" or element.tag == "attribute":
                continue
            if not (frame := element.get("frame", "")).isdecimal():
                raise InputError(f"{where}: frame {frame!r} is no number")
            shape = _cvat_shape(element, track.get("label", ""), f"{where}, frame {frame}", size)
            if shape:
                found.setdefault(int(frame), []).append(shape)
    if not found:
        raise InputError(f"{path}: holds no image and no track of CVAT")
    return found


def _cvat_shape(element: ElementTree.Element, label: str, where: str, size: tuple[int, int]) -> Shape | None:
    if element.tag == "tag":
        return None
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    if element.tag == "polygon":
        points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", element.get("points", ""))
        if len(points) < 3:
            raise InputError(f"{where}: is a polygon of {len(points)} points")
        cv2.fillPoly(mask, [np.round(np.array(points, float)).astype(np.int32)[:, None]], 1)
    elif element.tag == "mask":
        names = ("left", "top", "width", "height")
        try:
            left, top, wide, high = (int(element.get(name, "")) for name in names)
            runs = [int(n) for n in element.get("rle", "").split(",")]
        except ValueError:
            raise InputError(f"{where}: lacks {', '.join(names)} or rle, as integers") from None
        if min(left, top, *runs) < 0 or left + wide > width or top + high > height or sum(runs) != wide * high:
            raise InputError(f"{where}: its mask of {wide}x{high} does not fit its run lengths or the image")
        inside = np.repeat(np.arange(len(runs)) % 2, runs).reshape(high, wide)
        mask[top : top + high, left : left + wide] = inside
    else:
        raise InputError(f"{where}: is a {element.tag}; draw masks or polygons")
    values = {a.get("name"): (a.text or "").strip() for a in element.iter("attribute")}
    track = values.get("track_id", "") or "0"
    if not track.isdecimal() or int(track) >= CODE:
        raise InputError(f"{where}: track_id {track!r} is no number in 0..{CODE - 1}")
    order = element.get("z_order", "0")
    return Shape(label, int(track), int(order) if order.lstrip("-").isdecimal() else 0, mask > 0, where)


def _read_coco(document: JsonValue, size: tuple[int, int]) -> dict[int, list[Shape]]:
    names = {c.get("id", int): c.get("name", str) for c in document.items("categories")}
    things = {c.get("id", int): bool(c.value.get("isthing", 1)) for c in document.items("categories")}
    frames: dict[int, int] = {}
    for image in document.items("images"):
        stem = Path(image.get("file_name", str)).stem
        if not stem.isdecimal():
            raise image.error("has a file_name that is no frame number, such as 000010.jpg")
        if (image.get("width", int), image.get("height", int)) != size:
            raise image.error(f"is not of the size of the project, {size[0]}x{size[1]}")
        frames[image.get("id", int)] = int(stem)
    found: dict[int, list[Shape]] = {frame: [] for frame in frames.values()}
    for annotation in document.items("annotations"):
        category, image_id = annotation.get("category_id", int), annotation.get("image_id", int)
        if category not in names or image_id not in frames:
            raise annotation.error("has a category_id or image_id that is not listed")
        holder = (
            annotation if "track_id" in annotation or "attributes" not in annotation else annotation.at("attributes")
        )
        track = holder.get("track_id", int) if "track_id" in holder else 0
        if not 0 <= track < CODE:
            raise annotation.error(f"has track_id {track}, outside 0..{CODE - 1}")
        found[frames[image_id]].append(
            Shape(names[category], track, int(things[category]), _coco_mask(annotation, size), annotation.place)
        )
    return found


def _coco_mask(annotation: JsonValue, size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    shape = annotation.at("segmentation")
    if isinstance(shape.value, dict):
        mask = rle.from_json(shape.value, f"{shape.path}: {shape.place}").mask()
        if mask.shape != (height, width):
            raise shape.error(f"is {mask.shape[1]}x{mask.shape[0]}, the images are {width}x{height}")
        return mask
    drawn = np.zeros((height, width), np.uint8)
    for polygon in shape.items():
        if not isinstance(polygon.value, list) or len(polygon.value) < 6 or len(polygon.value) % 2:
            raise polygon.error("is no polygon [x, y, x, y, ...] of three corners or more")
        corners = np.round(np.array(polygon.value, float).reshape(-1, 2)).astype(np.int32)
        cv2.fillPoly(drawn, [corners[:, None]], 1)
    return drawn > 0


def import_masks(project: Project, path: Path) -> tuple[int, int]:
    """Uses the masks of a file for the frames in which they differ from those of the project.

    A mask without `track_id`, or of another class than its track, belongs to a new track; those of one `track_id` and
    class are one track.

    Returns:
        Numbers of frames in the file, and of frames that differ. These are kept when masks are propagated again.

    Raises InputError for an unknown frame or class, or a file that cannot be read.
    """
    width, height = project.frames.size
    shapes = read_shapes(path, (width, height))
    state = project.state()
    unknown = [frame for frame in shapes if frame >= len(project.frames.stamps)]
    if unknown:
        raise InputError(f"{path}: frame {unknown[0]} is not in the project, which has {len(project.frames.stamps)}")
    ids = {(n, track.class_id): n for n, track in state.tracks.items()}
    used = set(state.tracks)
    highest = max((shape.track for masks in shapes.values() for shape in masks), default=0)
    following = max(state.next_id, highest + 1)
    layer = []
    for frame, masks in sorted(shapes.items()):
        semantic, instance = np.full((height, width), VOID_ID, np.uint8), np.zeros((height, width), np.uint16)
        for shape in sorted(masks, key=lambda one: one.order):
            class_id, number = _class_of(shape, project.taxonomy), 0
            key = shape.track, class_id
            if project.taxonomy.by_id[class_id].isthing:
                if not shape.track or (key not in ids and shape.track in used):
                    number, following = following, following + 1
                # The number of a track that was deleted is used again.
                number = ids.setdefault(key, number or shape.track) if shape.track else number
                used.add(shape.track)
            if number >= CODE:
                raise InputError(f"{shape.where}: needs a new track, and {CODE - 1} is the largest number of a track")
            semantic[shape.mask], instance[shape.mask] = class_id, number
        found = LabelMap(semantic, instance)
        now = project.labels(state, frame) if frame in state.layers else None
        if now is None or not np.array_equal(codes_of(now), codes_of(found)):
            layer.append((frame, found, LayerFrame(rows_of(found))))
    if layer:
        project.add_layer("import", layer)
    return len(shapes), len(layer)


def _class_of(shape: Shape, taxonomy: Taxonomy) -> int:
    known = {normalized_name(c.name): c.id for c in taxonomy.classes}
    if (name := normalized_name(shape.label)) not in known:
        raise InputError(
            f"{shape.where}: class {shape.label!r} is not one of {taxonomy.name} "
            f"({listed((c.name for c in taxonomy.classes), 6)})"
        )
    return known[name]
