"""The bags at URIs: their names, their files, and how a worker opens them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vps_ros.errors import InputError
from vps_ros.fleet.storage import Store, StoredFile
from vps_ros.recording.bag import METADATA, ROS1_SUFFIX, format_of, is_bag_file, recording_name
from vps_ros.recording.frames import BagReader
from vps_ros.recording.mcap import NotIndexed


@dataclass(frozen=True)
class StoredBag:
    """A bag in a store.

    Attributes:
        name: unique in a fleet: path below the URI, without the ending.
        files: of the bag; one for a bag that is a file.
        folder: of the files below the store; None for a bag that is a file.
    """

    name: str
    store: Store
    files: tuple[StoredFile, ...]
    folder: str | None = None

    @property
    def where(self) -> str:
        """Its URI, for messages."""
        return self.store.where(self.files[0].path if self.folder is None else self.folder)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def version(self) -> str:
        """Changes when a file of the bag is replaced: SHA-256 of sizes and times of change.

        Raises InputError when the store has no such time, nor anything else that changes.
        """
        if any(file.version is None for file in self.files):
            raise InputError(
                f"{self.where}: the store does not say when a file was changed, so that a second run could not find "
                "bags that were replaced; copy the bags to another store"
            )
        files = [(PurePosixPath(f.path).name, f.size, f.version) for f in self.files]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    @contextmanager
    def copied(self) -> Iterator[Path]:
        """The bag on this machine: its own path, or a temporary copy."""
        if local := self.store.local:
            yield local / (self.files[0].path if self.folder is None else self.folder)
            return
        with tempfile.TemporaryDirectory(prefix="vps-ros-") as temporary:
            folder = Path(temporary, PurePosixPath(self.name).name)
            folder.mkdir()
            if self.folder is None:
                # Refused before it is copied.
                with self.store.open(self.files[0].path) as file:
                    format_of(file, self.where)
            for file in self.files:
                name = PurePosixPath(file.path).name or self.store.name
                self.store.fetch(file.path, folder / name)
            path = folder if self.folder is not None else folder / name
            try:
                yield path
            except InputError as error:
                raise InputError(str(error).replace(str(path), self.where)) from None

    @contextmanager
    def reader(self, topic: str | None, damaged: bool = False) -> Iterator[BagReader]:
        """The frames of an image topic. An MCAP file with an index is streamed; other bags are copied first.

        Raises InputError as BagReader, and, unless `damaged`, when a part of the bag cannot be read.
        """
        with self._reader(topic) as reader:
            # Damage of the index is found before the frames are read, other damage while they are.
            if not damaged:
                _refuse_losses(reader)
            yield reader
            if not damaged:
                _refuse_losses(reader)

    @contextmanager
    def _reader(self, topic: str | None) -> Iterator[BagReader]:
        name = self.files[0].path or self.store.name
        if self.store.local is None and self.folder is None and name.endswith(".mcap"):
            with self.store.open(self.files[0].path) as file:
                try:
                    reader = BagReader(PurePosixPath(self.where).name, topic, file)
                except NotIndexed:
                    reader = None
                if reader:
                    with reader:
                        yield reader
                    return
        with self.copied() as path, BagReader(path, topic) as reader:
            yield reader


def _refuse_losses(reader: BagReader) -> None:
    if reader.losses:
        raise InputError(
            f"{reader.losses[0].what}; copy the recording again (`fleet replay --damaged` processes what is left of it)"
        )


def find_bags(uris: Iterable[str]) -> dict[str, StoredBag]:
    """All bags at the URIs, sorted by name: files, rosbag2 folders, and folders of both.

    ROS 1 bags are among them, so that they are listed as failed; but not beside a bag of the same name, to which they
    were converted.

    Raises InputError for a URI without bags, and for two bags of one name.
    """
    found: dict[str, StoredBag] = {}
    for uri in uris:
        store = Store.at(uri)
        bags = list(_bags_in(store))
        if not bags:
            what = "holds no bag" if store.files() else "no such file or folder"
            raise InputError(f"{uri}: {what}; give .mcap or .db3 files, rosbag2 folders, or folders of them")
        for bag in bags:
            other = found.setdefault(bag.name, bag)
            if other is not bag:
                raise InputError(
                    f"two bags of the name {bag.name}: {other.where} and {bag.where}; results are named by their bag, "
                    "rename one, or give a folder above both"
                )
    return dict(sorted(found.items()))


def _bags_in(store: Store) -> Iterator[StoredBag]:
    files = store.files() or ()
    top = store.name
    if len(files) == 1 and files[0].path == "":
        if is_bag_file(top):
            yield StoredBag(recording_name(top), store, files)
        return
    folders = {str(PurePosixPath(f.path).parent) for f in files if PurePosixPath(f.path).name == METADATA}
    for folder in folders:
        own = tuple(f for f in files if str(PurePosixPath(f.path).parent) == folder)
        yield StoredBag(top if folder == "." else folder, store, own, "" if folder == "." else folder)
    names = set(folders)
    # ROS 1 bags come last.
    for file in sorted(files, key=lambda file: file.path.endswith(ROS1_SUFFIX)):
        path = PurePosixPath(file.path)
        name = str(path.parent / recording_name(path.name))
        ros1 = path.suffix == ROS1_SUFFIX
        if str(path.parent) not in folders and is_bag_file(path.name) and not (ros1 and name in names):
            names.add(name)
            yield StoredBag(name, store, (file,))
