"""Which image, and which embeddings, belong to each panoptic map of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vps_ros.datasets.kitti_step import (
    Sequences,
    list_embeddings,
    list_images,
    list_maps,
    list_without_split,
    name_frames,
)
from vps_ros.errors import InputError


@dataclass(frozen=True)
class MappedFrame:
    """The files of one frame; `embeddings` is None where the data set has none."""

    sequence: str
    frame: str
    image: Path
    map: Path
    embeddings: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.sequence}/{self.frame}"


def pair_maps(
    segmentation: str | Path, images: str | Path, embeddings: str | Path | None = None, split: str | None = None
) -> tuple[tuple[MappedFrame, ...], tuple[str, ...]]:
    """Every map with its image, sequence by sequence, frames in natural order.

    Args:
        segmentation: folder of maps in a layout that `list_maps` accepts.
        images: folder of images in the same layout.
        embeddings: folder of embeddings in the same layout.
        split: take only this split, where a folder has splits.

    Returns:
        The frames, and the sequences of images that have no map at all, which are left out.

    Raises:
        InputError: as the listings; or a map lacks its image or its embeddings, an image of a sequence that has maps
            lacks its map, a folder for the maps of a sequence holds none, or a file is both image and map.
    """
    maps = list_maps(segmentation, split)
    photos = list_without_split(list_images, images, split)
    vectors = None if embeddings is None else list_without_split(list_embeddings, embeddings, split)
    _refuse_empty(maps, photos)
    spare = tuple(s for s in photos if s not in maps)
    _refuse_unpaired(maps, photos, f"{images}: no image for", "map", "name images as their maps are, or add them")
    unmapped = {s: frames for s, frames in photos.items() if s in maps}
    _refuse_unpaired(unmapped, maps, f"{segmentation}: no map for", "image", "every image of a sequence needs its map")
    if vectors is not None:
        _refuse_unpaired(maps, vectors, f"{embeddings}: no embeddings for", "map", "write SEQUENCE/FRAME.npz for each")
    frames = tuple(
        MappedFrame(s, f, photos[s][f], path, None if vectors is None else vectors[s][f])
        for s, found in maps.items()
        for f, path in found.items()
    )
    for frame in frames:
        if frame.image.resolve() == frame.map.resolve():
            raise InputError(f"{frame.map}: is both image and map; give images and maps folders of their own")
    return frames, spare


def _refuse_unpaired(ours: Sequences, theirs: Sequences, what: str, kind: str, remedy: str) -> None:
    missing = {(s, f) for s, frames in ours.items() for f in frames if f not in theirs.get(s, {})}
    if missing:
        raise InputError(f"{what} {len(missing)} {kind}(s): {name_frames(missing, ours)}; {remedy}")


def _refuse_empty(maps: Sequences, photos: Sequences) -> None:
    for base in {next(iter(frames.values())).parent.parent for frames in maps.values()}:
        for folder in sorted(base.iterdir()):
            if folder.name in maps or folder.name.startswith(".") or not folder.is_dir():
                continue
            if folder.name in photos or not any(folder.iterdir()):
                raise InputError(f"{folder}: a sequence without panoptic maps; write its maps, or remove the folder")
