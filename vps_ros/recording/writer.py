"""Writes a rosbag2 recording: one .mcap file, or a folder with metadata.yaml."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_existing
from vps_ros.frame import PanopticFrame
from vps_ros.messages.panoptic import LABEL_INFO, OUTPUTS, output
from vps_ros.messages.typestore import typestore
from vps_ros.taxonomy import Taxonomy

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
# The newest layout of metadata.yaml that ROS 2 Humble reads as well: it wants the QoS profiles as text.
_VERSION = 8
_MARKER = "metadata.yaml"
_FOREVER = QosTime(9223372036, 854775807)


class BagWriter:
    """A bag that is either whole or not there; the same messages give the same bytes.

    Args:
        path: `*.mcap` becomes one file, any other name a rosbag2 folder.
        force: replace what is there.
        storage: "mcap", or "sqlite3" for a folder.
        compress: zstd chunks (mcap only). Segment maps shrink to a small part, camera images hardly.

    Use as a context manager: the bag appears at `path` when the block ends without an error.
    Raises InputError when `path` exists (without `force`), cannot be written, or does not fit the storage.
    """

    def __init__(self, path: str | Path, force: bool = False, *, storage: str = "mcap", compress: bool = True) -> None:
        self.path = Path(path)
        self._force = force
        self._storage = storage
        self._compress = compress
        self._connections: dict[str, Any] = {}
        self._labelled: tuple[str, Taxonomy] | None = None
        self._single = self.path.suffix == ".mcap"
        if storage not in STORAGES:
            raise InputError(f"{path}: storage {storage!r} is not one of {', '.join(STORAGES)}")
        if self.path.suffix == ".db3" or (self._single and storage != "mcap"):
            raise InputError(f"{path}: an SQLite3 bag is a folder; choose a name without {self.path.suffix}")
        refuse_existing(path, force, _MARKER)

    def __enter__(self) -> BagWriter:
        self._recording = self._open()
        self._writer = self._recording.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._recording.__exit__(*error)

    @contextmanager
    def _open(self) -> Iterator[Writer]:
        with atomic_write(self.path, self._force, _MARKER) as draft:
            # rosbags makes a folder and writes its name into the data file too; one file of its own must not
            # depend on what it is called.
            folder = draft.with_name("folder") / "recording" if self._single else draft
            writer = Writer(folder, version=_VERSION, storage_plugin=STORAGES[self._storage])
            if self._compress and self._storage == "mcap":
                writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            try:
                with writer:
                    yield writer
            except sqlite3.OperationalError as error:
                # SQLite tells neither the file nor the system's reason.
                if "full" in str(error):
                    raise OSError(errno.ENOSPC, str(error), str(self.path)) from None
                raise InputError(f"{self.path}: cannot be written ({error}); check the disk and its limits") from None
            if self._single:
                (folder / f"{folder.name}.mcap").rename(draft)

    def write(self, topic: str, message: Any, stamp: int, latched: bool = False) -> None:
        """Serialises a message at `stamp` (ns, log and publish time); `latched` offers it to late subscribers."""
        kind = message.__msgtype__
        self.write_raw(topic, kind, typestore().serialize_cdr(message, kind), stamp, latched)

    def write_raw(self, topic: str, kind: str, data: bytes | memoryview, stamp: int, latched: bool = False) -> None:
        """As `write`, for a message of type `kind` that is serialised already."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=typestore(), offered_qos_profiles=[_profile(latched)]
            )
        # Recordings count time from zero; a stamp before the epoch can only come from a broken clock.
        self._writer.write(self._connections[topic], max(int(stamp), 0), data)

    def write_frame(
        self,
        frame: PanopticFrame,
        taxonomy: Taxonomy,
        overlay: NDArray[np.uint8] | None = None,
        prefix: str = "/vps",
        ids: bool = False,
    ) -> None:
        """The topics of one panoptic frame under `prefix`.

        Args:
            overlay: uint8 [H, W, 3] picture for the topic `overlay`.
            ids: also write the topic `panoptic_ids`.
        """

        def write(name: str) -> None:
            message = output(name, frame, taxonomy, lambda: overlay)
            self.write(f"{prefix}/{name}", message, frame.stamp, latched=name == LABEL_INFO)

        if self._labelled != (prefix, taxonomy):
            write(LABEL_INFO)
            self._labelled = (prefix, taxonomy)
        left_out = {"panoptic_ids": not ids, "overlay": overlay is None}
        for name in OUTPUTS:
            if not left_out.get(name):
                write(name)


def _profile(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )
