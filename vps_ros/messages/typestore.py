"""Every message type that vps_ros reads or writes, parsed from .msg files, without ROS; times and headers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vps_ros.errors import DroppedFrame, InputError

_PACKAGE = Path(__file__).resolve().parent.parent
_DEFINITIONS = _PACKAGE / "messages" / "definitions"


class Serialised(Protocol):
    """A recorded message: CDR bytes and their full type name."""

    @property
    def data(self) -> bytes | memoryview: ...

    @property
    def type(self) -> str: ...


_Serialised = TypeVar("_Serialised", bound=Serialised)


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The types of ROS 2 Jazzy with vision_msgs and vps_ros; one store for the whole process.

    Raises InputError when the installation lacks the .msg files.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for package, folder in (("vision_msgs", _DEFINITIONS / "vision_msgs"), ("vps_ros", own_definitions())):
        for path in sorted(folder.glob("*.msg")):
            types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{package}/msg/{path.stem}"))
    store.register(types)
    return store


def own_definitions() -> Path:
    """Folder of vps_ros' own .msg files: in a wheel, in the source tree, or in a ROS installation."""
    for folder in _candidates():
        if (folder / "TrackedObjects.msg").is_file():
            return folder
    raise InputError(f"{_PACKAGE}: the .msg files of vps_ros are missing; install vps_ros again")


def _candidates() -> Iterator[Path]:
    yield _DEFINITIONS / "vps_ros"
    yield _PACKAGE.parent / "msg"
    # colcon puts the modules in PREFIX/lib/pythonX.Y/site-packages and the definitions in PREFIX/share.
    for prefix in _PACKAGE.parents:
        yield prefix / "share" / "vps_ros" / "msg"


def read_message(data: bytes | memoryview, kind: str) -> Any:
    """The message of full type name `kind` in CDR bytes; arrays in it are views of `data`.

    Raises DroppedFrame when the bytes are no such message.
    """
    try:
        return typestore().deserialize_cdr(memoryview(data), kind)
    # Releases of rosbags differ in what they raise for bytes that end too early.
    except (SerdeError, struct.error, ValueError, IndexError, KeyError, AssertionError) as error:
        raise DroppedFrame(f"message is not a {kind} ({error})") from None


def readable(messages: Iterable[_Serialised]) -> Iterator[tuple[_Serialised, Any]]:
    """Each message and its content; messages that cannot be read are skipped."""
    for message in messages:
        with suppress(DroppedFrame):
            yield message, read_message(message.data, message.type)


def make_message(kind: str, /, **fields: Any) -> Any:
    """A message of type `kind` ("sensor_msgs/msg/Image") from all of its fields, as rosbags has it."""
    return typestore().types[kind](**fields)


def byte_view(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The value of a `uint8[]` field: a flat view of the array's bytes, in C order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def make_header(stamp: int, frame_id: str) -> Any:
    """std_msgs/Header of a stamp in nanoseconds."""
    return make_message("std_msgs/msg/Header", stamp=make_time(stamp), frame_id=frame_id)


def make_time(stamp: int) -> Any:
    """builtin_interfaces/Time of nanoseconds; whole seconds are rounded down, so that nanosec is never negative."""
    sec, nanosec = divmod(int(stamp), 1_000_000_000)
    return make_message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def nanoseconds(time: Any) -> int:
    """builtin_interfaces/Time as nanoseconds."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def full_name(name: str) -> str:
    """The type name with its kind; some recorders write `std_msgs/String` for `std_msgs/msg/String`."""
    package, _, rest = name.partition("/")
    return f"{package}/msg/{rest}" if rest and "/" not in rest else name
