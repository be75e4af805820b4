"""Services on the wire, as rmw_cyclonedds_cpp has them: a topic of requests, and one of replies."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from rosbags.typesys import get_types_from_msg

from vps_ros.live.dds import Bus, Profile, Writer
from vps_ros.live.names import absolute
from vps_ros.messages.typestore import BagMessages, read_message, typestore

log = logging.getLogger(__name__)

_DEFINITIONS = {
    "std_srvs/srv/Trigger": ("", "bool success\nstring message\n"),
    "std_srvs/srv/SetBool": ("bool data\n", "bool success\nstring message\n"),
}
_ENCAPSULATION, _HEADER = 4, 16
"""Bytes before the fields: CDR's own, and who asked, with what number."""

Handler = Callable[[Any], Future]


class Service:
    """Answers requests of one service.

    Args:
        handle: the request -> a future of its reply's message; called in the bus' thread, it must come back at once.
            Once the future is done, the reply says success, or why not.
    """

    def __init__(self, bus: Bus, name: str, kind: str, handle: Handler) -> None:
        _register(kind)
        self._request, self._response = f"{kind}_Request", f"{kind}_Response"
        self._handle = handle
        name = absolute(name)
        # Clients look for a reader and a writer of one owner.
        owner = f"serviceid={'.'.join(f'{byte:x}' for byte in uuid.uuid4().bytes)};"
        self._replies: Writer = bus.endpoint_writer(f"rr{name}Reply", self._response, Profile(), True, owner)
        self._requests = bus.endpoint_reader(f"rq{name}Request", self._request, Profile(), self._answer, True, owner)

    def _answer(self, data: bytes) -> None:
        header = data[_ENCAPSULATION : _ENCAPSULATION + _HEADER]
        request = read_message(data[:_ENCAPSULATION] + data[_ENCAPSULATION + _HEADER :], self._request)
        self._handle(request).add_done_callback(lambda future: self._reply(header, future))

    def _reply(self, header: bytes, future: Future) -> None:
        failure = None if future.cancelled() else future.exception()
        success = not future.cancelled() and failure is None
        text = str(future.result() or "") if success else str(failure or "stopping")
        message = BagMessages().make(self._response, success=success, message=text)
        cdr = bytes(typestore().serialize_cdr(message, self._response))
        self._replies.send_cdr(cdr[:_ENCAPSULATION] + header + cdr[_ENCAPSULATION:])


def _register(kind: str) -> None:
    for part, definition in zip(("Request", "Response"), _DEFINITIONS[kind], strict=True):
        name = f"{kind}_{part}"
        if name not in typestore().types:
            (fields,) = get_types_from_msg(definition, name).values()
            typestore().register({name: fields})
