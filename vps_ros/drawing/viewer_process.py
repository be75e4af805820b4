"""The process of Rerun's viewer: started in a window or for a browser, and checks before it is used."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import IO
from urllib.parse import quote, urlsplit

from vps_ros.errors import InputError

LOOPBACK = "127.0.0.1"
MEMORY = "2GiB"
"""Limit of the viewer, which forgets the oldest frames then."""
_START_SECONDS = 30.0
_ANSWER_SECONDS = 2.0


class ViewerProcess:
    """A viewer that was started here.

    Attributes:
        url: to which data are sent.
        page: address of the web viewer; "" for a window.
    """

    def __init__(self, arguments: Sequence[str], port: int, page: str = "") -> None:
        self.url, self.page = f"rerun+http://{LOOPBACK}:{port}/proxy", page
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._settings = tempfile.TemporaryDirectory(prefix="vps-viewer-", ignore_cleanup_errors=True)
        command = [_executable(), "--bind", LOOPBACK, "--port", str(port), *arguments]
        # In a session of its own: Ctrl-C ends the pipeline, and the window stays.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(self._settings.name),
            start_new_session=True,
        )
        end = monotonic() + _START_SECONDS
        while not _listens(LOOPBACK, port):
            if (ended := self.ended()) or monotonic() > end:
                self.end()
                raise InputError(f"the viewer cannot be started: {ended or 'it does not answer'}")
            sleep(0.05)

    def ended(self) -> str:
        """Why there is no viewer any more; "" while it runs."""
        code = self.process.poll()
        if code is None:
            return ""
        if code == 0:
            return "the viewer was closed"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        reason = next((line.strip() for line in lines if "Error" in line or "in use" in line), "")
        return f"the viewer ended with code {code}" + (f" ({reason})" if reason else "")

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start_window(*paths: str) -> ViewerProcess:
    """A viewer in a window, with recordings; raises InputError without a display."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError("no display for the viewer's window; use --web for a browser, or --save F.rrd")
    port = _free_port()
    return ViewerProcess(["--hide-welcome-screen", "--memory-limit", MEMORY, *paths], port)


def start_web_viewer(port: int, *paths: str) -> ViewerProcess:
    """A viewer for a browser on this machine, at `port` (0: any); raises InputError when the port is in use."""
    page = port or _free_port()
    data = port + 1 if port else _free_port()
    for one in (page, data):
        _check_free(one)
    source = quote(f"rerun+http://{LOOPBACK}:{data}/proxy", safe="")
    # Labels in the colours of the identities are easier to read on dark.
    address = f"http://{LOOPBACK}:{page}/?url={source}&theme=dark"
    arguments = ["--serve-web", "--web-viewer-port", str(page), "--server-memory-limit", MEMORY, *paths]
    process = ViewerProcess(arguments, data, address)
    end = monotonic() + _START_SECONDS
    while not _listens(LOOPBACK, page) and monotonic() < end and not process.ended():
        sleep(0.05)
    return process


def _environment(folder: str) -> dict[str, str]:
    """Environment of a process of Rerun that sends no usage statistics: on Linux, its settings are in `folder`.

    On other systems the settings of the user apply. The web viewer sends from the browser, which has its own.
    """
    settings = Path(folder) / "rerun" / "analytics.json"
    settings.parent.mkdir(parents=True)
    # Rerun ignores the file if one of its fields is missing.
    fields = {"analytics_id": "", "metadata": {}, "config_file_path": "", "data_dir_path": ""}
    settings.write_text(json.dumps({"analytics_enabled": False, **fields}), "utf-8")
    return {name: value for name, value in os.environ.items() if name != "RUST_LOG"} | {"XDG_CONFIG_HOME": folder}


def check_recording(path: str) -> None:
    """Raises InputError when this version of the viewer cannot read a recording (.rrd)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [_executable(), "rrd", "verify", path]
        check = subprocess.run(command, capture_output=True, text=True, env=_environment(folder))
    if check.returncode:
        lines = (check.stderr or check.stdout).strip().splitlines() or ["damaged"]
        raise InputError(f"{path}: cannot be read by this version of the viewer ({lines[-1]})")


def check_answer(url: str) -> None:
    """Raises InputError when no viewer answers at the address."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or 9876
    except ValueError:
        host = None
    if not host or parts.scheme not in ("rerun", "rerun+http", "rerun+https") or parts.path != "/proxy":
        raise InputError(f"{url}: not the address of a viewer; give rerun+http://HOST:PORT/proxy")
    if not _listens(host, port):
        raise InputError(f"{url}: no viewer answers; start `rerun` on that machine, or leave --connect out")


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=_ANSWER_SECONDS):
        return True
    return False


def _check_free(port: int) -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "at most 65535"
            raise InputError(f"port {port} of the viewer: {reason}; choose another one with --port") from None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return one.getsockname()[1]


def _executable() -> str:
    """That of the package, whose version is that of the library; another one on the path may be older."""
    import rerun_cli

    name = "rerun.exe" if sys.platform == "win32" else "rerun"
    return str(Path(rerun_cli.__file__).parent / name)


def load_rerun() -> None:
    """Imports rerun; raises InputError when it is not installed."""
    with _without_log():
        try:
            import rerun  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name != "rerun":
                raise
            raise InputError('the viewer needs rerun-sdk; pip install "vps_ros[view]"') from None


@contextmanager
def _without_log() -> Iterator[None]:
    """The library of Rerun reads its log level when it is loaded; what goes wrong is reported here, in one line."""
    before = os.environ.get("RUST_LOG")
    os.environ.setdefault("RUST_LOG", "off")
    try:
        yield
    finally:
        if before is None:
            del os.environ["RUST_LOG"]
