"""`vps-ros`: finds the subcommand, runs it, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from vps_ros.errors import InputError

COMMANDS = {
    "demo": "generate a street drive, replay it, evaluate it",
    "replay": "track every object of a recorded drive",
    "live": "track what a camera sees, on the ROS 2 wire without ROS",
    "play": "publish a bag's images on the ROS 2 wire",
    "record": "record topics of the ROS 2 wire as a bag",
    "pack": "make a bag from a folder of images or a video",
    "track": "give identities to per-frame panoptic maps",
    "evaluate": "measure predictions against ground truth",
    "ablate": "compare trackers on the same segmentations",
    "synth": "generate street drives with exact ground truth",
    "train": "train a model",
    "export": "write a trained model as ONNX",
    "inspect": "say what a model or a bag contains",
    "bench": "measure speed against named alternatives",
}
"""Each is a module of this package with DESCRIPTION, EXAMPLES, add_arguments(parser) and run(args) -> int."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 bad input (one line on stderr), 1 a failure of our own."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _ready_streams()
    try:
        # Importing a command takes long enough to be interrupted.
        args = _parser(argv).parse_args(argv)
        return args.run(args) or 0
    except InputError as error:
        return _complain(error, 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # Whoever reads has had enough. What is not written yet would fail once more at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _complain(f"disk full while writing {error.filename or 'the output'}; free some space", 2)
        if error.errno in (errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOTDIR) and error.filename:
            return _complain(f"{error.filename}: {error.strerror}; choose a path that can be used", 2)
        raise


def _ready_streams() -> None:
    """Names that the terminal cannot spell must not end a command, nor a stream that is closed."""
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
            # Others are named only: importing every command would make each of them slow to start.
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
        # The usage of a command with many parameters would hide what is wrong.
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _complain(message: object, code: int) -> int:
    print(f"vps-ros: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
