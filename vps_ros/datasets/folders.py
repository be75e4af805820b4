"""Folders with one PNG label map for each frame: listed, split, paired with camera images, and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.images import GREY, PALETTE, load_png, save_png
from vps_ros.datasets.labels import LabelledFrame, LabelMap, Videos, listed, map_classes
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, list_files

MARKER = "predictions.txt"
"""This file marks a folder of predictions written here, which may be replaced."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def load_classes(path: Path, table: NDArray[np.int16], expected: str) -> LabelMap:
    """Labels of a grey or palette PNG that holds classes only; arguments and errors as those of `map_classes`."""
    values = load_png(path, (GREY, PALETTE), expected)
    return LabelMap.without_instances(map_classes(values, table, path, expected))


def read_split(root: Path, split: str) -> tuple[str, ...]:
    """Names of the videos of a split from ROOT/SPLIT.txt, one in each line.

    Raises InputError when there is no such file, it is no text, or it names nothing.
    """
    path = root / f"{split}.txt"
    if not path.is_file():
        there = listed([p.stem for p in list_files(root, (".txt",))]) or "none"
        raise InputError(f"{path}: no such file, which names the videos of split {split!r} (lists there: {there})")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text; write the name of a video in each line") from None
    names = tuple(dict.fromkeys(filter(None, map(str.strip, lines))))
    if not names:
        raise InputError(f"{path}: names no video; write one name in each line")
    return names


def folders_of_split(folders: Mapping[str, Path], root: Path, split: str | None, where: Path) -> Mapping[str, Path]:
    """The `folders` of the videos that ROOT/SPLIT.txt names; all of them without a split.

    Args:
        where: their parent folder, for errors.

    Raises InputError as `read_split`, or when a folder of the split is missing.
    """
    if not split:
        return folders
    names = read_split(root, split)
    absent = [name for name in names if name not in folders]
    if absent:
        raise InputError(
            f"{where}: lacks the maps of {len(absent)} video(s) of {split}.txt: {listed(absent)}; add them"
        )
    return {name: folders[name] for name in names}


def png_videos(
    root: Path,
    folders: Mapping[str, Path],
    load: Callable[[Path], LabelMap],
    expected: str,
    image: Callable[[str, str], Path] | None = None,
) -> Videos:
    """Labelled frames of one folder of PNG files for each video, in natural order; empty folders are left out.

    Args:
        root: the data set, for errors.
        folders: video -> folder.
        load: reads one file.
        expected: what the data set holds, and where, for errors: "masks; expected VIDEO/FRAME.png".
        image: (video, frame) -> the camera image, where there might be one.

    Raises InputError when there is no frame, or one is there twice, as .png and as .PNG.
    """
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for name, folder in sorted(folders.items()):
        frames: dict[str, LabelledFrame] = {}
        for path in list_files(folder, (".png",)):
            if path.stem in frames:
                other = Path(frames[path.stem].where).name
                raise InputError(f"{path}: frame {path.stem} is in {other} too; keep one")
            image_file = image(name, path.stem) if image else None
            frames[path.stem] = LabelledFrame(name, path.stem, path, partial(load, path), image_file)
        if frames:
            videos[name] = frames
    if not videos:
        raise InputError(f"{root}: holds no {expected}")
    return videos


def labels_with_images(
    labels: Path, images: Path, split: str | None, load: Callable[[Path], LabelMap], tracked: bool = False
) -> Videos:
    """Labelled frames of LABELS/NAME.png or LABELS/SEQUENCE/NAME.png, with their images of the same name.

    Args:
        split: names of sequences, separated by commas; all of them without it.
        tracked: objects keep their numbers through a sequence; otherwise each frame is a video of its own.

    Raises InputError when a sequence of the split is missing, or there are no labels.
    """
    folders = subfolders(labels)
    names: Sequence[str] = sorted(folders)
    if split:
        names = [name.strip() for name in split.split(",") if name.strip()]
        absent = [name for name in names if name not in folders]
        if absent:
            raise InputError(
                f"{labels}: has no {listed(absent)} (there: {listed(sorted(folders)) or 'no sequences'}); a split of "
                "this layout names sequences, separated by commas"
            )
    places = [(name, folders[name], images / name) for name in names] or [("", labels, images)]
    videos: dict[str, dict[str, LabelledFrame]] = {}
    for name, folder, image_folder in places:
        there = {p.stem: p for p in list_files(image_folder, IMAGE_SUFFIXES)}
        for path in list_files(folder, (".png",)):
            sequence = name if tracked and name else "/".join(filter(None, (name, path.stem)))
            image = there.get(path.stem, image_folder / f"{path.stem}.jpg")
            frame = LabelledFrame(sequence, path.stem, path, partial(load, path), image)
            videos.setdefault(sequence, {})[path.stem] = frame
    if not videos:
        raise InputError(f"{labels}: holds no labels; expected NAME.png, or SEQUENCE/NAME.png")
    return videos


def subfolders(folder: Path) -> dict[str, Path]:
    """Name -> sub-folder, hidden ones left out; empty where the folder is absent."""
    if not folder.is_dir():
        return {}
    return {p.name: p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}


@contextmanager
def map_writer(
    root: str | Path, force: bool = False, *, encode: Callable[[LabelMap, str], NDArray[np.integer]], folder: str = "."
) -> Iterator[MapWriter]:
    """A context that writes ROOT/FOLDER/VIDEO/FRAME.png, all or none.

    Args:
        root: see `vps_ros.datasets.labels.VideoDataSet.writer`.
        force: likewise.
        encode: (labels, name of the frame) -> pixels; raises InputError for what the coding cannot hold.
        folder: of the videos within the root.
    """
    with atomic_write(root, force, MARKER) as draft:
        yield MapWriter(draft / folder, encode)
        draft.mkdir(exist_ok=True)
        (draft / MARKER).write_text("This folder of predictions was written by vps_ros, which may replace it.\n")


class MapWriter:
    """Writes one map after the other into a folder."""

    def __init__(self, folder: Path, encode: Callable[[LabelMap, str], NDArray[np.integer]]) -> None:
        self._folder, self._encode = folder, encode

    def add(self, sequence: str, frame: str, labels: LabelMap) -> None:
        """As `vps_ros.datasets.labels.LabelWriter.add`."""
        name = f"{sequence}/{frame}"
        path = self._folder / f"{name}.png"
        if path.exists():
            raise InputError(f"{name}: written twice; give each frame a name of its own")
        save_png(path, self._encode(labels, name))
