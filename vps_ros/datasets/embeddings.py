"""Embeddings beside panoptic maps: `<frame>.npz` with `ids` [K] (class * 65536 + instance), `embeddings` [K, D]."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.segments import CODE_DIVISOR, MapSegments
from vps_ros.errors import InputError
from vps_ros.taxonomy import Taxonomy

_EXPECTED = "ids [K] (class * 65536 + instance) and embeddings [K, D]"


@dataclass(frozen=True)
class Embeddings:
    """What one file holds.

    Attributes:
        path: the file.
        ids: int64 [K], sorted, each once.
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
        raise InputError(f"{path}: lacks an array ({error.args[0]}); write {_EXPECTED}") from None
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is not an NPZ file of plain arrays ({error}); write {_EXPECTED}") from None
    if ids.shape == (0,) and vectors.size == 0:
        width = vectors.shape[1] if vectors.ndim == 2 else 0
        return Embeddings(path, np.empty(0, np.int64), np.empty((0, width), np.float32))
    if ids.ndim != 1 or ids.dtype.kind not in "ui":
        raise InputError(f"{path}: ids are {ids.dtype} {list(ids.shape)}, not integers [K]; write {_EXPECTED}")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fui" or vectors.shape[1] == 0:
        raise InputError(f"{path}: embeddings are {vectors.dtype} {list(vectors.shape)}; write {_EXPECTED}")
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
