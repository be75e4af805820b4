"""The folder of a labelling project: images, layers of masks, and the log of edits.

PROJECT/project.json             recording, model, classes
PROJECT/frames.json              stamp of each frame, and the frames with sparse labels
PROJECT/images/FRAME.jpg         every frame of the recording
PROJECT/layers/NAME/FRAME.png    label maps in the coding of KITTI-STEP (R class, G * 256 + B track id)
PROJECT/layers/NAME/index.json   what the segments of the maps are
PROJECT/segments/FRAME.npz       results of the segmenter, computed once
PROJECT/edits.jsonl              one edit in each line; lines are only appended
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.images import load_image
from vps_ros.datasets.kitti_step import load_map, save_map
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, write_json
from vps_ros.labelling.edits import (
    CODE,
    ClassifyStuff,
    Edit,
    Layer,
    LayerFrame,
    Region,
    SegmentRow,
    State,
    UseLayer,
    read_edit,
    state_of,
    to_json,
)
from vps_ros.reading import load_json, read_as
from vps_ros.taxonomy import VOID_ID, Taxonomy

SETTINGS, FRAMES, LOG, INDEX = "project.json", "frames.json", "edits.jsonl", "index.json"
Progress = Callable[..., Iterable]
"""(items, label, total) -> the same items, shown as a progress bar."""


def without_progress(items: Iterable, label: str, total: int | None = None) -> Iterable:
    return items


@dataclass(frozen=True)
class Settings:
    """What a project was made of.

    Attributes:
        recording: path of the recording.
        topic: of its images, or empty.
        name: of the sequence in exported data sets.
        model: name or path of the segmenter, also used by the propagation to every frame; empty for given masks with
            other classes.
        second: a second model, whose disagreement marks segments as uncertain, or empty.
        masks: folder of given masks, or empty.
        hz: sparse frames per second.
        image_hz: frames per second of a folder of images; 0: those of the recording.
        taxonomy_name, classes: as Taxonomy.to_json.
    """

    recording: str
    topic: str
    name: str
    model: str
    second: str
    masks: str
    hz: float
    image_hz: float
    taxonomy_name: str
    classes: tuple[dict, ...]

    @property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy.from_json(self.taxonomy_name, self.classes)


@dataclass(frozen=True)
class Frames:
    """The frames of the recording.

    Attributes:
        stamps: nanoseconds.
        sparse: numbers of the frames that get sparse labels, ascending.
        size: width and height of every image, pixels.
    """

    stamps: tuple[int, ...]
    sparse: tuple[int, ...]
    size: tuple[int, int]


class Project:
    """A project folder that `vps-ros label new` has made.

    Args:
        root: the folder.

    Raises InputError when it is no project, or is not complete.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / SETTINGS).is_file():
            raise InputError(f"{root}: is no labelling project; make one with `vps-ros label new RECORDING -o {root}`")
        self.settings: Settings = read_json(Settings, self.root / SETTINGS)
        for file, missing in ((FRAMES, "images of the recording"), (LOG, "labels of the sparse frames")):
            if not (self.root / file).is_file():
                raise InputError(
                    f"{root}: `vps-ros label new {self.settings.recording}` has not made the {missing}: it runs, was "
                    "interrupted or failed; the same command continues, or says why it fails"
                )
        self.frames: Frames = read_json(Frames, self.root / FRAMES)
        self.taxonomy = self.settings.taxonomy
        self._layers: dict[str, Layer] = {}

    @cached_property
    def name(self) -> str:
        return self.settings.name

    def image(self, frame: int) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB."""
        return load_image(self.image_path(frame))

    def image_path(self, frame: int) -> Path:
        return image_path(self.root, frame)

    def edits(self) -> list[Edit]:
        """The log. An incomplete last line, left by an interrupted write, is ignored.

        Raises InputError that names the line that is no edit.
        """
        data = (self.root / LOG).read_bytes()
        lines = data[: data.rfind(b"\n") + 1].splitlines()
        found = []
        for number, line in enumerate(lines, 1):
            where = f"{self.root / LOG}: line {number}"
            try:
                found.append(read_edit(json.loads(line), where))
            except (json.JSONDecodeError, UnicodeDecodeError):
                raise InputError(f"{where} is not JSON; restore the file from a copy") from None
        return found

    def append(self, edits: Iterable[Edit]) -> None:
        """Adds edits to the log; they are on disk when it returns. Raises InputError when one cannot be applied."""
        new = list(edits)
        state = self.state([*self.edits(), *new])
        for frame in {edit.frame for edit in new if isinstance(edit, ClassifyStuff)}:
            self.labels(state, frame)
        append_log(self.root, new)

    def state(self, edits: Iterable[Edit] | None = None) -> State:
        """The labels after the edits of the log, or after these."""
        edits = self.edits() if edits is None else list(edits)
        for edit in edits:
            if isinstance(edit, UseLayer) and edit.name not in self._layers:
                self._layers[edit.name] = read_layer(self.root, edit.name)
        return state_of(edits, self._layers, self.taxonomy)

    def rows(self, state: State, frame: int) -> Mapping[int, SegmentRow]:
        """Segment id -> segment, of the layer that a frame uses."""
        return {row.id: row for row in self.layer_frame(state, frame).segments}

    def layer_frame(self, state: State, frame: int) -> LayerFrame:
        return self._layers[state.layers[frame]].frames[frame]

    def labels(self, state: State, frame: int, accepted_only: bool = False) -> LabelMap:
        """Classes uint8 and track ids uint16 [H, W] of a frame with labels; deleted segments are void.

        Args:
            accepted_only: things that are not accepted are void, too.

        Raises InputError when a region of the state is no stuff, or has its class already.
        """
        semantic, instance = load_map(self.root / "layers" / state.layers[frame] / f"{frame:06d}.png")
        owner = {
            segment: (number, track.class_id)
            for number, track in state.tracks.items()
            if frame in track.segments and (track.accepted or not accepted_only)
            for segment in track.segments[frame]
        }
        classes, ids = np.full(CODE, VOID_ID, np.uint8), np.zeros(CODE, np.uint16)
        for segment, (number, class_id) in owner.items():
            classes[segment], ids[segment] = class_id, number
        stuff = np.where(instance > 0, VOID_ID, semantic)
        for region in state.stuff.get(frame, ()):
            stuff[_pixels(region, stuff, instance, frame)] = region.class_id
        return LabelMap(np.where(ids[instance] > 0, classes[instance], stuff), ids[instance])

    def add_layer(self, kind: str, maps: Iterable[tuple[int, LabelMap, LayerFrame]]) -> str:
        """Writes a layer and uses it; returns its name. A layer that is interrupted leaves nothing.

        Args:
            maps: frame, its map with track ids as instances, its index.
        """
        name = f"{len(list((self.root / 'layers').glob('*'))):04d}-{kind}"
        write_layer(self.root, name, kind, maps)
        self.append([UseLayer(name)])
        return name


def _pixels(region: Region, stuff: NDArray[np.uint8], instance: NDArray[np.uint16], frame: int) -> NDArray[np.bool_]:
    """bool [H, W], the pixels of a region.

    Args:
        stuff: uint8 [H, W], classes after the edits before; VOID_ID where the layer has a thing.
        instance: uint16 [H, W] of the layer.
    """
    x, y, class_id, deleted = region
    where = f"classify-stuff: pixel {x}, {y} of frame {frame}"
    height, width = stuff.shape
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f"{where} is outside of the image ({width}x{height})")
    free = (instance == 0) | np.isin(instance, deleted)
    if not free[y, x]:
        raise InputError(f"{where} is of a track; classify or delete the track")
    if stuff[y, x] == class_id:
        raise InputError(f"{where} has class {class_id} already")
    parts = cv2.connectedComponents((free & (stuff == stuff[y, x])).astype(np.uint8))[1]
    return parts == parts[y, x]


def image_path(root: Path, frame: int) -> Path:
    return root / "images" / f"{frame:06d}.jpg"


def append_log(root: Path, edits: Iterable[Edit]) -> None:
    """Appends edits without a check; removes an incomplete last line first."""
    path = root / LOG
    if path.is_file():
        data = path.read_bytes()
        if not data.endswith(b"\n") and data:
            os.truncate(path, data.rfind(b"\n") + 1)
    with path.open("ab") as file:
        file.write("".join(json.dumps(to_json(edit)) + "\n" for edit in edits).encode())
        file.flush()
        os.fsync(file.fileno())


def write_layer(root: Path, name: str, kind: str, maps: Iterable[tuple[int, LabelMap, LayerFrame]]) -> None:
    """Writes a folder of maps and its index, complete or not at all."""
    with atomic_write(root / "layers" / name, True, INDEX) as draft:
        frames: dict[str, Any] = {}
        for frame, labels, content in maps:
            save_map(draft / f"{frame:06d}.png", *labels)
            frames[str(frame)] = {
                "uncertain": content.uncertain,
                "segments": [[r.id, r.class_id, r.area, list(r.box), r.score, r.agreement] for r in content.segments],
            }
        draft.mkdir(exist_ok=True)
        write_json(draft / INDEX, {"kind": kind, "frames": frames})


def read_layer(root: Path, name: str) -> Layer:
    """The index of a layer; raises InputError when it is missing or damaged."""
    path = root / "layers" / name / INDEX
    document = load_json(path, "the folder of the layer was removed; restore it from a copy")
    try:
        frames = {
            int(number): LayerFrame(
                tuple(
                    SegmentRow(int(i), int(c), int(a), _box(box), float(s), agreement)
                    for i, c, a, box, s, agreement in content["segments"]
                ),
                float(content["uncertain"]),
            )
            for number, content in document.get("frames", dict).items()
        }
        return Layer(name, document.get("kind", str), frames)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: is damaged; restore it from a copy") from None


def read_json(kind: Any, path: Path) -> Any:
    """A dataclass of a JSON file; raises InputError that names the file and the entry."""
    try:
        return read_as(kind, load_json(path, "make the project again").value)
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _box(corners: Iterable[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = corners
    return float(x0), float(y0), float(x1), float(y1)
