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
from vps_ros.messages.panoptic import DEPTH_OUTPUTS, LABEL_INFO, OUTPUTS, output
from vps_ros.messages.typestore import typestore
from vps_ros.taxonomy import Taxonomy

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
# The newest version of metadata.yaml that ROS 2 Humble reads: it requires QoS profiles as a string.
_VERSION = 8
_MARKER = "metadata.yaml"
_INFINITE = QosTime(9223372036, 854775807)


class BagWriter:
    """Writes a bag atomically; the same messages give the same bytes.

    Args:
        path: `*.mcap` becomes one file, any other name a rosbag2 folder.
        force: replace an existing bag.
        storage: "mcap", or "sqlite3" for a folder.
        compress: zstd chunks (mcap only). Effective for segment maps, hardly for camera images.

    Use as a context manager: the bag appears at `path` when the block ends without an error.
    Raises InputError if `path` exists (without `force`), cannot be written, or does not fit the storage.
    """

    def __init__(self, path: str | Path, force: bool = False, *, storage: str = "mcap", compress: bool = True) -> None:
        self.path = Path(path)
        self._force = force
        self._storage = storage
        self._compress = compress
        self._connections: dict[str, Any] = {}
        self._label_info: dict[str, Taxonomy] = {}
        """Of each prefix, the one that was written last."""
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
        with atomic_write(self.path, self._force, _MARKER) as temporary:
            # rosbags creates a folder and writes its name into the data file, whose content must not depend on
            # the name of the output.
            folder = temporary.with_name("folder") / "recording" if self._single else temporary
            writer = Writer(folder, version=_VERSION, storage_plugin=STORAGES[self._storage])
            if self._compress and self._storage == "mcap":
                writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            try:
                with writer:
                    yield writer
            except sqlite3.OperationalError as error:
                # The error of SQLite has neither the file nor errno.
                if "full" in str(error):
                    raise OSError(errno.ENOSPC, str(error), str(self.path)) from None
                raise InputError(f"{self.path}: cannot be written ({error}); check the disk and its limits") from None
            if self._single:
                (folder / f"{folder.name}.mcap").rename(temporary)

    def write(self, topic: str, message: Any, stamp: int, latched: bool = False) -> None:
        """Writes a message at `stamp` (ns, log and publish time); `latched`: transient local durability."""
        kind = message.__msgtype__
        self.write_raw(topic, kind, typestore().serialize_cdr(message, kind), stamp, latched)

    def write_raw(self, topic: str, kind: str, data: bytes | memoryview, stamp: int, latched: bool = False) -> None:
        """As `write`, for a serialised message of type `kind`."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=typestore(), offered_qos_profiles=[_profile(latched)]
            )
        # Times in recordings are unsigned.
        self._writer.write(self._connections[topic], max(int(stamp), 0), data)

    def write_frame(
        self,
        frame: PanopticFrame,
        taxonomy: Taxonomy,
        overlay: NDArray[np.uint8] | None = None,
        prefix: str = "/vps",
        ids: bool = False,
        cloud: NDArray[np.uint8] | None = None,
    ) -> None:
        """Writes the topics of one panoptic frame under `prefix`; those of DEPTH_OUTPUTS if it has objects in 3D.

        Args:
            overlay: uint8 [H, W, 3] picture for the topic `overlay`.
            ids: also write the topic `panoptic_ids`.
            cloud: also write the topic `panoptic_cloud`, with the colours of this camera image, uint8 [H, W, 3].
        """

        def write(name: str) -> None:
            message = output(name, frame, taxonomy, lambda: overlay, cloud)
            self.write(f"{prefix}/{name}", message, frame.stamp, latched=name == LABEL_INFO)

        if self._label_info.get(prefix) != taxonomy:
            write(LABEL_INFO)
            self._label_info[prefix] = taxonomy
        omitted = {
            "panoptic_ids": not ids,
            "overlay": overlay is None,
            **dict.fromkeys(DEPTH_OUTPUTS, frame.objects_3d is None),
            "panoptic_cloud": frame.objects_3d is None or cloud is None,
        }
        for name in (*OUTPUTS, *DEPTH_OUTPUTS):
            if not omitted.get(name):
                write(name)


def _profile(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_INFINITE,
        lifespan=_INFINITE,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_INFINITE,
        avoid_ros_namespace_conventions=False,
    )
