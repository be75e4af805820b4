"""DDS types of ROS messages, made from the parsed .msg files; samples of them hold CDR and are never taken apart.

Cyclone's own Python serialisation turns a picture into a list of a million numbers, so it is replaced: what is written
and read are the bytes of rosbags. The C library, which checks each sample against the type before Python sees it,
still gets the true structure of the message.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cyclonedds.idl import IdlStruct, make_idl_struct, types
from rosbags.interfaces import Nodetype

from vps_ros.messages.typestore import typestore

_BASE = {
    "bool": bool,
    "byte": types.uint8,
    "octet": types.uint8,
    "char": types.uint8,
    "int8": types.int8,
    "uint8": types.uint8,
    "int16": types.int16,
    "uint16": types.uint16,
    "int32": types.int32,
    "uint32": types.uint32,
    "int64": types.int64,
    "uint64": types.uint64,
    "float32": types.float32,
    "float64": types.float64,
    "string": str,
}
_REQUEST_HEADER = {"guid_": types.uint64, "sequence_number_": types.int64}
"""What rmw_cyclonedds_cpp writes before the fields of a request and of its response, to tell whose they are."""


@cache
def dds_type(kind: str, service: bool = False) -> type[IdlStruct]:
    """The type whose samples carry messages of `kind` ("sensor_msgs/msg/Image"); their bytes are in `cdr`.

    Args:
        service: a request or response ("std_srvs/srv/Trigger_Request"), which have a header of their own.
    """
    carrier = _struct(kind, _REQUEST_HEADER if service else {})
    # Set afterwards: Cyclone takes a base class for one of the message's own.
    carrier.serialize = _serialize
    carrier.deserialize = carrier.deserialize_key = classmethod(_deserialize)
    return carrier


def sample(carrier: type[IdlStruct], words: bytearray) -> IdlStruct:
    """One to write, of CDR whose length is a multiple of 4: the C library reads in words."""
    one = object.__new__(carrier)
    one.cdr = words
    return one


def dds_name(kind: str) -> str:
    """`sensor_msgs::msg::dds_::Image_` of "sensor_msgs/msg/Image"."""
    package, folder, name = kind.split("/")
    return f"{package}::{folder}::dds_::{name}_"


def ros_name(name: str) -> str:
    """The reverse of dds_name; a name that ROS did not make stays as it is."""
    parts = name.split("::")
    if len(parts) == 4 and parts[2] == "dds_" and parts[3].endswith("_"):
        return f"{parts[0]}/{parts[1]}/{parts[3][:-1]}"
    return name


def type_hash(kind: str) -> str:
    """RIHS01 hash (REP 2011), by which ROS tells one definition of a type from another."""
    return typestore().hash_rihs01(kind)


def _serialize(self: Any, buffer: Any = None, endianness: Any = None, use_version_2: Any = None) -> bytes:
    return self.cdr


def _deserialize(cls: type, data: bytes, has_header: bool = True, use_version_2: Any = None) -> Any:
    one: Any = object.__new__(cls)
    one.cdr = data
    return one


@cache
def _part(kind: str) -> type[IdlStruct]:
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
        return _part(description)
    inner, count = _field(*description[0]), description[1]
    if node == Nodetype.ARRAY:
        return types.array[inner, count]
    return types.sequence[inner, count] if count else types.sequence[inner]
