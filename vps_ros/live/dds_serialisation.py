"""DDS types of ROS messages, made from the .msg files, whose samples hold CDR bytes; and the buffer that makes the CDR.

Cyclone's own Python serialisation turns an image into a list of millions of numbers. It is replaced here: written and
read are the CDR bytes of rosbags. The C library, which checks each sample against the type before Python gets it, still
gets the true structure of the message.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from cyclonedds.idl import IdlStruct, make_idl_struct, types
from rosbags.interfaces import Nodetype

from vps_ros.messages.typestore import typestore

_NUMBERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
_BASE: dict[str, Any] = {"bool": bool, "string": str, **{name: getattr(types, name) for name in _NUMBERS}}
_BASE |= dict.fromkeys(("byte", "octet", "char"), types.uint8)
_REQUEST_HEADER = {"guid_": types.uint64, "sequence_number_": types.int64}
"""Written by rmw_cyclonedds_cpp before the fields of a request and of its response: the client and a number."""
_LITTLE_ENDIAN = b"\0\1\0\0"


@cache
def dds_type(kind: str, service: bool = False) -> type[IdlStruct]:
    """The type whose samples carry messages of `kind` ("sensor_msgs/msg/Image"); their bytes are in `cdr`.

    Args:
        service: a request or response ("std_srvs/srv/Trigger_Request"), which starts with a header.
    """
    carrier = _struct(kind, _REQUEST_HEADER if service else {})
    # Set afterwards: Cyclone would take fields of a base class for fields of the message.
    carrier.serialize = _serialize
    carrier.deserialize = carrier.deserialize_key = classmethod(_deserialize)
    return carrier


def sample(carrier: type[IdlStruct], cdr: bytearray) -> IdlStruct:
    """A sample to write, of CDR whose length is a multiple of 4, as the C library needs it."""
    one = object.__new__(carrier)
    one.cdr = cdr
    return one


def dds_name(kind: str) -> str:
    """`sensor_msgs::msg::dds_::Image_` of "sensor_msgs/msg/Image"."""
    package, folder, name = kind.split("/")
    return f"{package}::{folder}::dds_::{name}_"


def ros_name(name: str) -> str:
    """The reverse of dds_name; a type name that is not of ROS stays as it is."""
    parts = name.split("::")
    if len(parts) == 4 and parts[2] == "dds_" and parts[3].endswith("_"):
        return f"{parts[0]}/{parts[1]}/{parts[3][:-1]}"
    return name


def type_hash(kind: str) -> str:
    """RIHS01 hash (REP 2011), by which ROS distinguishes definitions of a type."""
    return typestore().hash_rihs01(kind)


class PaddedBytes(bytearray):
    """CDR whose length is a multiple of 4 already; Cyclone's binding would copy it to pad it."""

    def ljust(self, width: int, fill: bytes = b" ", /) -> bytearray:  # type: ignore[override]
        return self if width <= len(self) else super().ljust(width, fill)


class SerialisationBuffer:
    """Serialises one message at a time into the same memory; a result is valid until the next call."""

    def __init__(self) -> None:
        self._bytes = PaddedBytes()

    def serialise(self, message: Any, kind: str) -> PaddedBytes:
        """The CDR of a message, padded with zeros to a multiple of 4 bytes."""
        store = typestore()
        definition = store.get_msgdef(kind)
        size = len(_LITTLE_ENDIAN) + definition.getsize_cdr(0, message, store)
        buffer = self._resize(size)
        # The bytes that align the fields are not written below.
        np.frombuffer(buffer, np.uint8).fill(0)
        view = memoryview(buffer)
        view[: len(_LITTLE_ENDIAN)] = _LITTLE_ENDIAN
        definition.serialize_cdr_le(view[len(_LITTLE_ENDIAN) :], 0, message, store)
        return buffer

    def copy(self, cdr: bytes | memoryview) -> PaddedBytes:
        """The padded CDR of a message that is serialised already."""
        buffer = self._resize(len(cdr))
        memoryview(buffer)[: len(cdr)] = cdr
        memoryview(buffer)[len(cdr) :] = bytes(len(buffer) - len(cdr))
        return buffer

    def _resize(self, size: int) -> PaddedBytes:
        size += -size % 4
        if len(self._bytes) != size:
            self._bytes = PaddedBytes(size)
        return self._bytes


def _serialize(self: Any, buffer: Any = None, endianness: Any = None, use_version_2: Any = None) -> bytes:
    return self.cdr


def _deserialize(cls: type, data: bytes, has_header: bool = True, use_version_2: Any = None) -> Any:
    one: Any = object.__new__(cls)
    one.cdr = data
    return one


@cache
def _nested(kind: str) -> type[IdlStruct]:
    return _struct(kind, {})


def _struct(kind: str, first: dict[str, Any]) -> type[IdlStruct]:
    fields = {f"{name}_": _field(*description) for name, description in typestore().fielddefs[kind][1]}
    return make_idl_struct(
        kind.rpartition("/")[2], dds_name(kind).replace("::", "."), {**first, **fields}, dataclassify=False
    )


def _field(node: Nodetype, description: Any) -> Any:
    if node == Nodetype.BASE:
        base, longest = description
        return types.bounded_str[longest] if base == "string" and longest else _BASE[base]
    if node == Nodetype.NAME:
        return _nested(description)
    inner, count = _field(*description[0]), description[1]
    if node == Nodetype.ARRAY:
        return types.array[inner, count]
    return types.sequence[inner, count] if count else types.sequence[inner]
