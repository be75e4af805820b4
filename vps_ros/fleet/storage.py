"""Files at URIs: local folders, and the stores that pyarrow or fsspec know (S3, Google Cloud, Azure)."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError
from vps_ros.files import atomic_write

_NOISE = re.compile(r" \(Request ID.*|; Details:.*|\. Detail:.*", re.DOTALL)


@dataclass(frozen=True)
class StoredFile:
    """A file of a store.

    Attributes:
        path: below the folder of the store.
        size: bytes.
        changed: time of the last change, nanoseconds since 1970.
    """

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Store:
    """The folder, or single file, at a URI. Can be pickled; every process opens its own connection.

    Names of files are paths below the folder, with `/`. Methods raise InputError, in one line with the URI, when the
    store cannot be reached or refuses.
    """

    uri: str

    @classmethod
    def at(cls, uri: str) -> Store:
        """The store of a URI or a local path; raises InputError when nothing can open such URIs."""
        store = cls(uri.rstrip("/") if "://" in uri else str(Path(uri).expanduser().resolve()))
        # Errors of the URI itself are reported here.
        store._opened  # noqa: B018
        return store

    @property
    def local(self) -> Path | None:
        """The path, where this is a folder or file of this machine."""
        if "://" not in self.uri:
            return Path(self.uri)
        return Path(self._opened[1]) if self.uri.startswith("file://") else None

    def where(self, name: str = "") -> str:
        """URI of a file, for messages."""
        return f"{self.uri}/{name}" if name else self.uri

    def files(self) -> tuple[StoredFile, ...] | None:
        """The file at the URI, whose path is "", or all files below the folder, sorted; None where nothing exists.

        Hidden files, and those of hidden folders, are left out.
        """
        from pyarrow.fs import FileSelector, FileType

        filesystem, base = self._opened
        with self._errors("cannot be listed"):
            here = filesystem.get_file_info(base)
            if here.type == FileType.File:
                return (StoredFile("", here.size, here.mtime_ns or 0),)
            # A bucket that does not exist is an error here, and not found above.
            try:
                found = filesystem.get_file_info(FileSelector(base, recursive=True))
            except FileNotFoundError:
                found = []
        if here.type == FileType.NotFound and not found:
            return None
        listed = (
            StoredFile(one.path.removeprefix(base).lstrip("/"), one.size, one.mtime_ns or 0)
            for one in found
            if one.type == FileType.File
        )
        return tuple(sorted((f for f in listed if not f"/{f.path}".count("/.")), key=lambda f: f.path))

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is no file of this name."""
        with self._errors("cannot be read", name):
            return self._opened[0].get_file_info(self._path(name)).size

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file, as a seekable file object."""
        with self._errors("cannot be read", name):
            file = self._opened[0].open_input_file(self._path(name))
        with file:
            yield file

    def read(self, name: str) -> bytes:
        with self._errors("cannot be read", name), self._opened[0].open_input_file(self._path(name)) as file:
            return file.read()

    def fetch(self, name: str, target: Path) -> None:
        """Copies a file to this machine."""
        with (
            self._errors("cannot be read", name),
            self._opened[0].open_input_stream(self._path(name)) as source,
            target.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1 << 22)

    def put(self, source: Path, name: str) -> None:
        """Copies a file of this machine into the store; it appears there complete, and replaces an existing one."""
        if folder := self.local:
            with atomic_write(folder / name) as draft:
                shutil.copyfile(source, draft)
            return
        import pyarrow as pa

        with self._errors("cannot be written", name):
            # Object stores show an upload when it is closed, so that nothing else may fail between opening and closing.
            # The file is mapped, not read: results of a long drive are large.
            content = pa.memory_map(str(source)).read_buffer() if source.stat().st_size else b""
            with self._opened[0].open_output_stream(self._path(name)) as target:
                target.write(content)

    def check_writable(self) -> None:
        """Raises InputError where nothing can be written; leaves nothing behind."""
        if folder := self.local:
            nearest = next(path for path in (folder, *folder.parents) if path.exists())
            if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
                raise InputError(
                    f"{folder}: cannot be written, {nearest} is a file or not yours; choose another output"
                )
            return
        name = f".vps-ros.{secrets.token_hex(4)}"
        try:
            with tempfile.NamedTemporaryFile() as empty:
                self.put(Path(empty.name), name)
            self.remove(name)
        except InputError as error:
            raise InputError(str(error).replace(self.where(name), self.uri)) from None

    def remove(self, name: str) -> None:
        """Removes a file that exists."""
        with self._errors("cannot be removed", name):
            self._opened[0].delete_file(self._path(name))

    @contextlib.contextmanager
    def _errors(self, what: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = _NOISE.sub("", str(error).rpartition("AWS Error ")[2]).strip()
            reason = " ".join((error.strerror or reason).split())[:300]
            raise InputError(f"{self.where(name)}: {what} ({reason}); check the URI and your rights") from None

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{name}" if name else self._opened[1]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """pyarrow's file system, and the path in it."""
        try:
            import pyarrow as pa
            import pyarrow.fs as fs
        except ImportError as error:
            raise InputError(f"the fleet needs pyarrow ({error}); pip install 'vps_ros[fleet]'") from None
        if "://" not in self.uri:
            return fs.LocalFileSystem(), self.uri
        with self._errors("cannot be opened"):
            try:
                filesystem, path = fs.FileSystem.from_uri(self.uri)
            except pa.ArrowInvalid:
                return _with_fsspec(self.uri)
        return filesystem, path.rstrip("/")

    def __getstate__(self) -> dict:
        return {"uri": self.uri}


def _with_fsspec(uri: str) -> tuple[Any, str]:
    """For the schemes that pyarrow does not know, such as az://."""
    import pyarrow.fs as fs

    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{uri}: no library opens such URIs ({reason}); use s3://, gs://, abfs:// or a path, or install the fsspec "
            "package of this store, such as adlfs for az://"
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path.rstrip("/")
