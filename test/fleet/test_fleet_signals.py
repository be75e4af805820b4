"""The fleet commands, ended by a signal. Real processes, each with a Ray of its own."""

import os
import secrets
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from support import ROOT
from support.bags import drive, write
from support.labelled_bags import scene, writing
from support.worlds import colour_model

pytest.importorskip("pyarrow")
pytest.importorskip("ray")

pytestmark = pytest.mark.slow
PATIENCE = 600.0
SHORT, LONG = 3, 1200
"""Frames of the bag `a`, which is done before the signal, and of `b`."""


class Command:
    """A fleet command in a process of its own, with everything that it starts."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._token = f"VPS_ROS_TEST={secrets.token_hex(8)}"
        name, _, value = self._token.partition("=")
        environment = {**os.environ, name: value, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.said = folder / "stderr.txt"
        with self.said.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vps_ros.commands.main", "fleet", *map(str, arguments)],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=said,
                # A shell starts processes in the background with SIGINT ignored, and they pass that on.
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )

    def end(self, number: signal.Signals | None = None, once: Path | None = None) -> int:
        """Sends the signal, if given, once the file exists; the exit code."""
        try:
            if number and once:
                wait(lambda: once.exists() or self._process.poll() is not None, once.name)
                self._process.send_signal(number)
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()

    def left(self) -> list[str]:
        """Command lines of the processes that are still there."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._token.encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_text())
            except OSError:
                # It has ended, or is another user's.
                continue
        return found


def ended(folder, arguments, *how):
    """A command that has ended, and its exit code. Ray allows itself 30 s to start, which a busy machine may exceed."""
    for _ in range(4):
        command = Command(folder, *arguments)
        code = command.end(*how)
        if "timed out during startup" not in command.said.read_text():
            break
    return command, code


def wait(until, what):
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def labelled(path, frames):
    with writing(path) as labels:
        for i in range(frames):
            labels.panoptic(i, *scene(i % 5), namespace="/ground_truth")
            labels.panoptic(i, *scene(i % 5))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, frames in (("a", SHORT), ("b", LONG)):
        write(folder / "drives" / name, drive(frames))
        labelled(folder / "labelled" / f"{name}.mcap", frames)
    colour_model(folder / "colours.onnx")
    return folder


@pytest.mark.parametrize(
    ("work", "number"),
    [
        ("replay", signal.SIGINT),
        ("replay", signal.SIGTERM),
        ("evaluate", signal.SIGTERM),
        ("label", signal.SIGINT),
        ("adapt", signal.SIGTERM),
    ],
)
def test_a_signal_leaves_complete_results_and_no_process(inputs, tmp_path, work, number):
    """A second run keeps what is done."""
    model = ("--model", inputs / "colours.onnx")
    out, name, bags, marker, flags = {
        "replay": ("out", "", "drives", "replay", model),
        "label": ("out", "", "drives", "label", model),
        "evaluate": ("out", "", "labelled", "evaluate", ()),
        "adapt": ("out/m.observed", "m.onnx", "drives", "observe", ("--teacher", "streets-s")),
    }[work]
    if work == "adapt":
        pytest.importorskip("torch", reason="needs torch")
    arguments = (work, inputs / bags, "-o", tmp_path / "out" / name, "--workers", "1", *flags)
    first, code = ended(tmp_path, arguments, number, tmp_path / out / f"a.{marker}.json")
    said = first.said.read_text()
    assert code == (130 if number == signal.SIGINT else 143), said
    assert "bag(s) are done. The same command does the rest" in said and "Traceback" not in said, said
    wait(lambda: not first.left(), f"still there: {first.left()}")
    made = files(tmp_path / out)
    assert {path.partition(".")[0] for path in made} == {"a"}, "b has no part of its results"
    if work in ("adapt", "label"):
        return
    second, code = ended(tmp_path, arguments)
    assert code == 0, second.said.read_text()
    again = files(tmp_path / out)
    assert made.items() <= again.items() and f"b.{marker}.json" in again
