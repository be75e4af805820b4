"""`vps-ros`: finds the subcommand, runs it, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from vps_ros.errors import InputError
from vps_ros.files import refuse_folder

COMMANDS = {
    "demo": "generate a street drive, replay it, evaluate it",
    "replay": "track every object of a recorded drive",
    "live": "track the objects of a live camera over DDS, without ROS",
    "view": "look at a recording, a result, a camera or a topic",
    "play": "publish the images of a bag over DDS",
    "record": "record topics over DDS as a bag",
    "pack": "make a bag from a folder of images or a video",
    "track": "give identities to per-frame panoptic maps",
    "label": "label a recording: sparse labels, review, propagation to every frame",
    "evaluate": "measure predictions against ground truth",
    "fleet": "replay, label or evaluate many recordings, on many machines",
    "ablate": "compare trackers on the same segmentations",
    "synth": "generate street drives with exact ground truth",
    "train": "train a model",
    "adapt": "adapt a model to unlabelled recordings",
    "export": "write a trained model as ONNX",
    "inspect": "show the content of a model or a bag",
    "bench": "measure speed against named alternatives",
}
"""Name -> meaning. Each is a module of this package with DESCRIPTION, EXAMPLES, add_arguments(parser), run(args)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Exit code: 0 success, 2 wrong input (one line on stderr), 1 a defect of this package."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _configure_streams()
    # Read when OpenCV is imported; its warnings of damaged images and lost cameras would stand beside our own line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    handlers = _handle_termination()
    try:
        # Importing a command takes long enough for an interrupt.
        args = _parser(argv).parse_args(argv)
        # Before the work, which may take hours.
        for output in filter(None, (getattr(args, name, None) for name in ("json", "html"))):
            refuse_folder(output, getattr(args, "force", True))
        _refuse_equal_outputs(args)
        return args.run(args) or 0
    except InputError as error:
        return _print_error(error, 2)
    except KeyboardInterrupt:
        return _print_error("interrupted", 130)
    except BrokenPipeError:
        # The reader closed the pipe. Output that is not written yet would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            # Of a copy, the second name is the output.
            name = error.filename2 or error.filename or "the output"
            return _print_error(f"disk full while writing {name}; free some space", 2)
        if error.errno in (errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOTDIR) and error.filename:
            return _print_error(f"{error.filename}: {error.strerror}; choose another path", 2)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _refuse_equal_outputs(args: argparse.Namespace) -> None:
    flags: dict[str, str] = {}
    for flag in ("output", "json", "html", "overlay", "youtube_vis", "save"):
        path = getattr(args, flag, None)
        if isinstance(path, str) and path:
            name = f"--{flag.replace('_', '-')}"
            other = flags.setdefault(os.path.realpath(path), name)
            if other != name:
                raise InputError(f"{path}: is given for {other} and for {name}; give each its own file")


def _handle_termination() -> dict[int, Any]:
    """Makes SIGTERM and SIGHUP end the command by SystemExit, so that temporary files are removed.

    Returns the handlers that were replaced; a signal that is ignored (nohup) stays ignored.
    """

    def handle(number: int, frame: FrameType | None) -> NoReturn:
        # A second signal ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    return {number: signal.signal(number, handle) for number in numbers}


def _configure_streams() -> None:
    """Characters that the terminal cannot encode, or a closed stream, must not end a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    from vps_ros import __version__

    parser = _Parser(prog="vps-ros", description="Online video panoptic segmentation for robots.")
    parser.add_argument("--version", action="version", version=f"vps-ros {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, meaning in COMMANDS.items():
        if argv[:1] != [name]:
            # Only the chosen command is imported; importing all would make every start slow.
            commands.add_parser(name, help=meaning)
            continue
        module = importlib.import_module(f"vps_ros.commands.{name}")
        examples = "examples:\n" + "\n".join(f"  {line}" for line in module.EXAMPLES)
        one = commands.add_parser(
            name,
            help=meaning,
            description=module.DESCRIPTION,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The usage of a command with many parameters would hide the error.
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _print_error(message: object, code: int) -> int:
    print(f"vps-ros: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
