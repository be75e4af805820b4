"""Labels in a folder beside the folder of their images, under the same names; sub-folders are sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vps_ros.datasets.labels import LabelledFrame, LabelMap, Videos, listed
from vps_ros.datasets.map_folder import subfolders
from vps_ros.errors import InputError
from vps_ros.files import natural_key

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def paired(
    labels: Path, images: Path, split: str | None, load: Callable[[Path], LabelMap], linked: bool = False
) -> Videos:
    """Labelled frames of LABELS/NAME.png or LABELS/SEQUENCE/NAME.png, with their images of the same name.

    Args:
        split: names of sequences, separated by commas; all of them without it.
        linked: objects have the same number throughout a sequence; otherwise each frame is a video of its own.

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
    for name, folder, photos in places:
        there = {p.stem: p for p in sorted(photos.glob("*")) if p.suffix.lower() in IMAGE_SUFFIXES}
        for path in sorted(folder.glob("*.png"), key=natural_key):
            sequence = name if linked and name else "/".join(filter(None, (name, path.stem)))
            photo = there.get(path.stem, photos / f"{path.stem}.jpg")
            frame = LabelledFrame(sequence, path.stem, path, partial(load, path), photo)
            videos.setdefault(sequence, {})[path.stem] = frame
    if not videos:
        raise InputError(f"{labels}: holds no labels; expected NAME.png, or SEQUENCE/NAME.png")
    return videos
