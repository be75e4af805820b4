"""Files at URIs: local folders, and the stores that pyarrow or fsspec know (S3, Google Cloud, Azure)."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vps_ros.errors import InputError
from vps_ros.files import atomic_write

_NOISE = re.compile(r" \(Request ID.*|; Details:.*|\. Detail:.*|\s+RequestId:.*", re.DOTALL)
_RETRY_SECONDS = 60
"""Of Google Cloud, which tries for 15 minutes otherwise."""
_SECRET = re.compile(r"//[^/@]*:[^@]*@")
_VERSIONS = ("etag", "ETag", "mtime", "last_modified", "LastModified", "created")
"""Properties of a file in fsspec, one of which changes when it is replaced; stores name it differently."""


@dataclass(frozen=True)
class StoredFile:
    """A file of a store.

    Attributes:
        path: below the folder of the store.
        size: bytes.
        version: changes when the file is replaced: time of the last change in nanoseconds since 1970, or what else the
            store has; None where it has nothing.
    """

    path: str
    size: int
    version: int | str | None


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
        uri = unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri
        store = cls(uri.rstrip("/") if "://" in uri else str(Path(uri).expanduser().resolve()))
        # Errors of the URI itself are reported here.
        store._opened  # noqa: B018
        return store

    @property
    def local(self) -> Path | None:
        """The path, where this is a folder or file of this machine."""
        return None if "://" in self.uri else Path(self.uri)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._opened[1].rpartition("/")[2]

    def below(self, name: str) -> Store:
        """The folder of this name."""
        path, mark, options = (self.uri, "", "") if self.local else self.uri.partition("?")
        return Store(f"{path}/{name}{mark}{options}")

    def holds(self, other: Store) -> bool:
        """Whether the other folder or file is this one, or below it."""
        kinds = {"://" in store.uri and store.uri.partition("://")[0] for store in (self, other)}
        return len(kinds) == 1 and f"{other._opened[1]}/".startswith(f"{self._opened[1]}/")

    def where(self, name: str = "") -> str:
        """URI of a file, for messages; without a password."""
        path = self.uri if self.local else _without_secrets(self.uri)
        return f"{path}/{name}" if name else path

    def files(self) -> tuple[StoredFile, ...] | None:
        """The file at the URI, whose path is "", or all files below the folder, sorted; None where nothing exists.

        Hidden files, and those of hidden folders, are left out.
        """
        base = self._opened[1]
        with self._errors("cannot be listed"):
            found = self._found()
        if found and found[0].path == base:
            return (replace(found[0], path=""),)
        if found is None:
            return None
        listed = (replace(file, path=file.path.removeprefix(base).lstrip("/")) for file in found)
        return tuple(sorted((f for f in listed if not f"/{f.path}".count("/.")), key=lambda f: f.path))

    def _found(self) -> list[StoredFile] | None:
        """The file, or all files below the folder, with complete paths; None where nothing exists."""
        from pyarrow.fs import FileSelector, FileType, PyFileSystem

        filesystem, base = self._opened
        if isinstance(filesystem, PyFileSystem):
            # pyarrow passes on the time of a change only where it is named "mtime".
            files = filesystem.handler.fs.find(base, detail=True).values()
            return [StoredFile(f["name"], f["size"], _version(f)) for f in files] or None
        here = filesystem.get_file_info(base)
        found = [here]
        if here.type != FileType.File:
            # A bucket that does not exist is an error here, and not found above.
            try:
                found = filesystem.get_file_info(FileSelector(base, recursive=True))
            except OSError as error:
                # That of Google Cloud has no errno.
                if not (isinstance(error, FileNotFoundError) or str(error).startswith("No such file")):
                    raise
                found = []
            if here.type == FileType.NotFound and not found:
                return None
        return [StoredFile(one.path, one.size, one.mtime_ns) for one in found if one.type == FileType.File]

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
            raise InputError(str(error).replace(self.where(name), self.where())) from None

    def remove(self, name: str) -> None:
        """Removes a file that exists."""
        with self._errors("cannot be removed", name):
            self._opened[0].delete_file(self._path(name))

    @contextlib.contextmanager
    def _errors(self, what: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Libraries of stores have exceptions of their own.
            if isinstance(error, InputError):
                raise
            reason = _NOISE.sub("", re.split("AWS Error |Azure Error: ", str(error))[-1]).strip()
            reason = " ".join((getattr(error, "strerror", None) or reason).split())[:300]
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
            uri = self.uri
            if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in uri:
                uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={_RETRY_SECONDS}"
            try:
                filesystem, path = fs.FileSystem.from_uri(uri)
            except pa.ArrowInvalid:
                if _SECRET.search(uri) and "/" in uri.partition("://")[2].rpartition("@")[0]:
                    raise InputError(
                        f"{self.where()}: the key before the @ contains a /; write %2F for /, %2B for + and %3D for ="
                    ) from None
                return _with_fsspec(self.uri)
        if uri.startswith(("abfs://", "abfss://")) and (key := urlsplit(uri).password):
            # pyarrow reads the account key of a URI, but does not use it.
            reconstruct, (options,) = filesystem.__reduce__()
            filesystem = reconstruct({**options, "account_key": unquote(key)})
        return filesystem, path.rstrip("/")

    def __getstate__(self) -> dict:
        return {"uri": self.uri}


def _with_fsspec(uri: str) -> tuple[Any, str]:
    """For the schemes that pyarrow does not know, such as az://."""
    import pyarrow.fs as fs

    try:
        import fsspec

        # Other processes write to the store: a listing is not kept.
        filesystem, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{_without_secrets(uri)}: no library opens such URIs ({reason}); use s3://, gs://, abfs:// or a path, or "
            "install the fsspec package of this store, such as adlfs for az://"
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path.rstrip("/")


def _without_secrets(uri: str) -> str:
    """The URI without password and options."""
    return _SECRET.sub("//", uri.partition("?")[0])


def _version(properties: Mapping[str, Any]) -> str | None:
    return next((str(properties[name]) for name in _VERSIONS if properties.get(name)), None)
