"""Inputs of `vps-ros track`: the segments of panoptic maps, the camera image of each map, embeddings of its segments.

Embeddings are `<frame>.npz` files with `ids` [K] (class * 65536 + instance) and `embeddings` [K, D].
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.kitti_step import (
    Sequences,
    list_embeddings,
    list_images,
    list_maps,
    list_without_split,
    refuse_missing,
)
from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.label_maps import areas, boxes, runs
from vps_ros.taxonomy import VOID_ID, Taxonomy

CODE_DIVISOR = 65536
"""A segment's code is class * 65536 + instance."""
_MAX_SEGMENTS = np.iinfo(np.uint16).max
_VOID_CODE = 2**62
_EMBEDDINGS = "ids [K] (class * 65536 + instance) and embeddings [K, D]"


@dataclass(frozen=True)
class MapSegments:
    """The segments of one panoptic map.

    Attributes:
        segmentation: one segment for each thing, connected or not, and one for each class of stuff.
        codes: int64 [K], class * 65536 + instance of each; instance 0 for segments that are not tracked.
        crowds: classes of things with instance 0: several objects that are not separated, without identity. They are
            segments like those of stuff.
        numbered_stuff: classes of stuff that have instances in the map; these are dropped.
    """

    segmentation: Segmentation
    codes: NDArray[np.int64]
    crowds: frozenset[int]
    numbered_stuff: frozenset[int]


def segments_of(
    semantic: NDArray[np.uint8], instance: NDArray[np.uint16], taxonomy: Taxonomy, where: str | Path = "map"
) -> MapSegments:
    """The segments of a map, ordered by class and first pixel, so that the numbers of instances have no influence.

    Args:
        semantic: uint8 [H, W] class ids; 255 is void.
        instance: uint16 [H, W].
        taxonomy: which classes are things.
        where: the map's name in errors.

    Raises:
        InputError: a class is not in the taxonomy, or there are more segments than 65535.
    """
    height, width = semantic.shape
    start, length = runs(semantic, instance)
    class_id = semantic.ravel()[start].astype(np.int64)
    number = instance.ravel()[start].astype(np.int64)
    is_void, thing = class_id == VOID_ID, taxonomy.thing_table
    unknown = ~is_void & ~np.isin(class_id, taxonomy.ids)
    if unknown.any():
        raise InputError(
            f"{where}: class {class_id[unknown].min()} is not one of {taxonomy.name} "
            f"({', '.join(f'{c.id} {c.name}' for c in taxonomy.classes)}) nor {VOID_ID}, void; write its classes"
        )
    code = np.where(thing[class_id], class_id * CODE_DIVISOR + number, class_id * CODE_DIVISOR)
    code[is_void] = _VOID_CODE
    codes, first, which = np.unique(code, return_index=True, return_inverse=True)
    order = np.lexsort((first, codes // CODE_DIVISOR))
    order = order[codes[order] != _VOID_CODE]
    if len(order) > _MAX_SEGMENTS:
        raise InputError(
            f"{where}: holds {len(order)} segments; more than {_MAX_SEGMENTS} in a frame cannot be tracked"
        )
    # Void keeps the number 0.
    label = np.zeros(len(codes), np.int64)
    label[order] = np.arange(1, len(order) + 1)
    label = label[which.reshape(-1)]
    codes = codes[order]
    classes = codes // CODE_DIVISOR
    is_thing = thing[classes] & (codes % CODE_DIVISOR > 0)
    small = np.uint8 if len(codes) <= np.iinfo(np.uint8).max else np.uint16
    segmentation = Segmentation(
        np.repeat(label.astype(small), length).reshape(height, width),
        classes.astype(np.int32),
        is_thing,
        np.ones(len(codes), np.float32),
        areas(label, length, len(codes)),
        boxes(label, start, length, width, len(codes)),
    )
    numbered = class_id[~is_void & ~thing[class_id] & (number > 0)]
    return MapSegments(
        segmentation,
        codes,
        frozenset(classes[thing[classes] & ~is_thing].tolist()),
        frozenset(np.unique(numbered).tolist()),
    )


@dataclass(frozen=True)
class FrameFiles:
    """The files of one frame; `embeddings` is None where the data set has none."""

    sequence: str
    frame: str
    image: Path
    map: Path
    embeddings: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.sequence}/{self.frame}"


def pair_files(
    segmentation: str | Path, images: str | Path, embeddings: str | Path | None = None, split: str | None = None
) -> tuple[tuple[FrameFiles, ...], tuple[str, ...]]:
    """Every map with its image, sequence by sequence, frames in natural order.

    Args:
        segmentation: folder of maps in a layout of `list_maps`.
        images: folder of images in a layout of `list_images`.
        embeddings: folder of embeddings in a layout of `list_embeddings`.
        split: take only this split, where a folder has splits.

    Returns:
        The frames, and the sequences of images that have no map at all, which are left out.

    Raises:
        InputError: as the listings; or a map lacks its image or its embeddings, an image of a sequence that has maps
            lacks its map, a folder for the maps of a sequence holds none, or a file is both image and map.
    """
    maps = list_maps(segmentation, split)
    pictures = list_without_split(list_images, images, split)
    vectors = None if embeddings is None else list_without_split(list_embeddings, embeddings, split)
    _refuse_empty(maps, pictures)
    spare = tuple(s for s in pictures if s not in maps)
    mapped, imaged = ({(s, f) for s, found in side.items() for f in found if s in maps} for side in (maps, pictures))
    hint = "name images as their maps are, or add them"
    refuse_missing(mapped - imaged, maps, f"{images}: no image for", hint, "map")
    hint = "every image of a sequence needs its map"
    refuse_missing(imaged - mapped, pictures, f"{segmentation}: no map for", hint, "image")
    if vectors is not None:
        known = {(s, f) for s, found in vectors.items() for f in found}
        hint = "write SEQUENCE/FRAME.npz for each"
        refuse_missing(mapped - known, maps, f"{embeddings}: no embeddings for", hint, "map")
    frames = tuple(
        FrameFiles(s, f, pictures[s][f], path, None if vectors is None else vectors[s][f])
        for s, found in maps.items()
        for f, path in found.items()
    )
    for frame in frames:
        if frame.image.resolve() == frame.map.resolve():
            raise InputError(f"{frame.map}: is both image and map; give images and maps folders of their own")
    return frames, spare


def _refuse_empty(maps: Sequences, pictures: Sequences) -> None:
    for base in {next(iter(frames.values())).parent.parent for frames in maps.values()}:
        for folder in sorted(base.iterdir()):
            if folder.name in maps or folder.name.startswith(".") or not folder.is_dir():
                continue
            if folder.name in pictures or not any(folder.iterdir()):
                raise InputError(f"{folder}: a sequence without panoptic maps; write its maps, or remove the folder")


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of one frame.

    Attributes:
        path: the file.
        ids: int64 [K], ascending, unique.
        vectors: float32 [K, D], finite.
    """

    path: Path
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def of(self, segments: MapSegments, taxonomy: Taxonomy) -> NDArray[np.float32]:
        """float32 [K, D] of a map's segments, by id; zeros for stuff. Ids that the map lacks are ignored.

        Raises InputError when the file lacks a thing of the map.
        """
        things = np.flatnonzero(segments.segmentation.is_thing)
        codes = segments.codes[things]
        found = np.zeros((len(segments.codes), self.vectors.shape[1]), np.float32)
        place = np.searchsorted(self.ids, codes)
        missing = codes[np.append(self.ids, -1)[place] != codes]
        if len(missing):
            class_id, instance = divmod(int(missing[0]), CODE_DIVISOR)
            more = f" and {len(missing) - 1} more of its map" if len(missing) > 1 else ""
            raise InputError(
                f"{self.path}: no embedding for id {missing[0]} ({taxonomy.by_id[class_id].name} {instance}){more}; "
                "give one for every thing of the map"
            )
        found[things] = self.vectors[place]
        return found


def load_embeddings(path: str | Path) -> Embeddings:
    """Reads one file.

    Raises:
        InputError: it cannot be read, lacks an array or has one of another shape or kind, holds NaN or infinity, or an
            id twice.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            ids, vectors = stored["ids"], stored["embeddings"]
    except KeyError as error:
        raise InputError(f"{path}: lacks an array ({error.args[0]}); write {_EMBEDDINGS}") from None
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is not an NPZ file of plain arrays ({error}); write {_EMBEDDINGS}") from None
    if ids.shape == (0,) and vectors.size == 0:
        width = vectors.shape[1] if vectors.ndim == 2 else 0
        return Embeddings(path, np.empty(0, np.int64), np.empty((0, width), np.float32))
    if ids.ndim != 1 or ids.dtype.kind not in "ui":
        raise InputError(f"{path}: ids are {ids.dtype} {list(ids.shape)}, not integers [K]; write {_EMBEDDINGS}")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fui" or vectors.shape[1] == 0:
        raise InputError(f"{path}: embeddings are {vectors.dtype} {list(vectors.shape)}; write {_EMBEDDINGS}")
    if len(ids) != len(vectors):
        raise InputError(f"{path}: {len(ids)} ids but {len(vectors)} embeddings; write one row for each id")
    order = np.argsort(ids, kind="stable")
    ids = ids[order].astype(np.int64)
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise InputError(f"{path}: id {twice[0]} occurs twice; write one row for each segment")
    with np.errstate(over="ignore"):
        vectors = vectors[order].astype(np.float32)
    bad = ids[~np.isfinite(vectors).all(axis=1)]
    if len(bad):
        raise InputError(
            f"{path}: the embedding of id {bad[0]} holds NaN or infinity (as float32); mend it, or write zeros for "
            "an appearance that is not known"
        )
    return Embeddings(path, ids, vectors)
