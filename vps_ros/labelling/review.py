"""The local web page on which a person reviews the tracks of a project.

Serves on the loopback address only. The URL contains a random token, so that other users and web pages on this machine
cannot use it. The page loads nothing from elsewhere. The only file that is written is the log of edits.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2

from vps_ros.datasets.kitti_step import encode
from vps_ros.drawing.colors import identity_color
from vps_ros.errors import InputError
from vps_ros.labelling.edits import Edit, State, UseLayer, history, read_edit
from vps_ros.labelling.project import LOG, Project
from vps_ros.labelling.uncertainty import uncertainties

HOST = "127.0.0.1"
_PAGE = Path(__file__).parent / "page"
_FILES = {
    "": ("review.html", "text/html; charset=utf-8"),
    "review.js": ("review.js", "text/javascript; charset=utf-8"),
    "review.css": ("review.css", "text/css; charset=utf-8"),
}
_LARGEST_BODY = 65536
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Conflict(InputError):
    """The page shows an older state than that of the log."""


class ReviewSession:
    """The state of a project while it is reviewed; may be used by several threads.

    Edits that other programs append to the log, such as `vps-ros label dense`, are noticed at the next call.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lock = threading.Lock()
        self._size = -1
        self._edits: list[Edit] = []
        self._state = State()

    def about(self) -> dict[str, Any]:
        """What does not change: name, number of frames, size of the images, classes."""
        width, height = self.project.frames.size
        return {
            "name": self.project.name,
            "frames": len(self.project.frames.stamps),
            "width": width,
            "height": height,
            "classes": self.project.taxonomy.to_json(),
        }

    def state(self) -> dict[str, Any]:
        """The state for the page: tracks, uncertain ones first, and labelled frames."""
        with self._lock:
            self._refresh()
            return self._described()

    def edit(self, version: int, edit: Edit) -> dict[str, Any]:
        """Appends an edit and returns the new state.

        Args:
            version: number of edits that the page has.

        Raises:
            Conflict: the log has other edits.
            InputError: the edit is not possible.
        """
        with self._lock:
            self._refresh()
            if version != len(self._edits):
                raise Conflict("the labels were changed by another program; the page shows the new state")
            self.project.append([edit])
            self._refresh()
            return self._described()

    def map_png(self, frame: int) -> bytes:
        """The labels of a frame as RGB PNG: R class, G * 256 + B track id."""
        with self._lock:
            self._refresh()
            labels = self.project.labels(self._state, frame)
        return cv2.imencode(".png", encode(*labels, "map")[..., ::-1])[1].tobytes()

    def has_labels(self, frame: int) -> bool:
        with self._lock:
            self._refresh()
            return frame in self._state.layers

    def _refresh(self) -> None:
        size = (self.project.root / LOG).stat().st_size
        if size != self._size:
            self._edits = self.project.edits()
            self._state = self.project.state(self._edits)
            self._size = size

    def _described(self) -> dict[str, Any]:
        state, project = self._state, self.project
        found = uncertainties(state, {frame: project.rows(state, frame) for frame in state.layers})
        order = sorted(state.tracks, key=lambda n: (state.tracks[n].accepted, -found[n].value, n))
        done, undone = history(self._edits)
        return {
            "version": len(self._edits),
            "undo": bool(done) and not isinstance(done[-1], UseLayer),
            "redo": bool(undone),
            "frames": [
                {
                    "frame": frame,
                    "source": frame in state.sources,
                    "confirmed": frame in state.confirmed,
                    "uncertain": project.layer_frame(state, frame).uncertain,
                }
                for frame in sorted(state.layers)
            ],
            "tracks": [
                {
                    "id": n,
                    "class_id": state.tracks[n].class_id,
                    "accepted": state.tracks[n].accepted,
                    "color": list(identity_color(n)),
                    "uncertainty": found[n].value,
                    "reasons": [reason._asdict() for reason in found[n].reasons],
                    "frames": sorted(state.tracks[n].segments),
                }
                for n in order
            ],
        }


class ReviewServer(ThreadingHTTPServer):
    """Serves one project on the loopback address.

    Args:
        port: 0 takes a free one.

    Attributes:
        url: of the page, with the token.

    Raises InputError when the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, project: Project, port: int = 0) -> None:
        self.session = ReviewSession(project)
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port}: cannot be opened on {HOST} ({error}); choose another with --port") from None
        self.url = f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    server_version, sys_version = "vps-ros", ""

    def do_GET(self) -> None:
        path = self._authorised()
        if path is None:
            return
        if path in _FILES:
            name, kind = _FILES[path]
            self._send(HTTPStatus.OK, (_PAGE / name).read_bytes(), kind)
        elif path == "api/project":
            self._answer(self.server.session.about)
        elif path == "api/state":
            self._answer(self.server.session.state)
        elif found := re.fullmatch(r"(images|maps)/(\d{1,9})", path):
            self._picture(found[1], int(found[2]))
        else:
            self._fail(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        path = self._authorised()
        if path is None:
            return
        # The body of a refused request is not read, so the connection cannot be used again.
        self.close_connection = True
        if path != "api/edit":
            self._fail(HTTPStatus.NOT_FOUND, "there is no such page")
        elif self.headers.get("Content-Type") != "application/json":
            self._fail(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        elif not (length := self.headers.get("Content-Length", "")).isdecimal():
            self._fail(HTTPStatus.LENGTH_REQUIRED, "send Content-Length")
        elif int(length) > _LARGEST_BODY:
            self._fail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an edit has at most {_LARGEST_BODY} bytes")
        else:
            body = self.rfile.read(int(length))
            self._answer(lambda: self.server.session.edit(*_request(body)))

    def _authorised(self) -> str | None:
        """The path below the token; None, after an error is sent, for any other."""
        hosts = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        # Another name that leads to this address could be that of a foreign page (DNS rebinding).
        if self.headers.get("Host") not in hosts:
            self._fail(HTTPStatus.FORBIDDEN, "use the address that the command prints")
            return None
        if self.headers.get("Origin", f"http://{HOST}:0").partition("://")[2] not in {*hosts, f"{HOST}:0"}:
            self._fail(HTTPStatus.FORBIDDEN, "another page may not use this one")
            return None
        token, _, rest = self.path.split("?")[0].removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._fail(HTTPStatus.FORBIDDEN, "use the address that the command prints; each start has a new token")
            return None
        return rest

    def _picture(self, kind: str, frame: int) -> None:
        session = self.server.session
        try:
            if kind == "images" and frame < len(session.project.frames.stamps):
                self._send(HTTPStatus.OK, session.project.image_path(frame).read_bytes(), "image/jpeg")
            elif kind == "maps" and session.has_labels(frame):
                self._send(HTTPStatus.OK, session.map_png(frame), "image/png")
            else:
                self._fail(HTTPStatus.NOT_FOUND, f"frame {frame} has no {kind}")
        except (InputError, FileNotFoundError) as error:
            self._fail(HTTPStatus.NOT_FOUND, str(error))

    def _answer(self, result: Callable[[], Any]) -> None:
        try:
            self._send(HTTPStatus.OK, json.dumps(result()).encode(), "application/json")
        except Conflict as error:
            self._fail(HTTPStatus.CONFLICT, str(error))
        except InputError as error:
            self._fail(HTTPStatus.BAD_REQUEST, str(error))

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The token must not be in logs."""


def _request(body: bytes) -> tuple[int, Edit]:
    """Version and edit of {version, edit}; raises InputError for anything else."""
    try:
        content = json.loads(body)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise InputError("the request is no JSON") from None
    if not isinstance(content, dict) or set(content) != {"version", "edit"} or type(content["version"]) is not int:
        raise InputError("write {version: integer, edit: {op, ...}}")
    edit = read_edit(content["edit"])
    if isinstance(edit, UseLayer):
        raise InputError("a layer is added by `vps-ros label dense` or `label import`, not by the page")
    return content["version"], edit
