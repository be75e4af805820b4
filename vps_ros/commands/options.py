"""Command line flags that several commands have: parameters, generated from their declarations, and others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

from vps_ros.commands.console import note, warn
from vps_ros.config import (
    DEFAULT_TRACKER,
    PIPELINE,
    TRACKER,
    TRACKERS,
    Config,
    Kind,
    LiveConfig,
    all_tracker_parameters,
    collected_deprecations,
    parameters,
    tracker_parameters,
)
from vps_ros.errors import InputError
from vps_ros.parameters import Parameter

if TYPE_CHECKING:
    from vps_ros.datasets.youtube_vis import ResultsWriter


def add_parameter_flags(
    parser: argparse.ArgumentParser, *kinds: type[Config] | type[LiveConfig], unused: Collection[str] = ()
) -> None:
    """Adds `--config YAML` and one flag for each parameter of `kinds` (default: Config); a flag overrides the file.

    With Config there is a flag for each parameter of every tracker; the help shows those of the chosen tracker.

    Args:
        unused: names of parameters that the command does not use. Their flags are not in the help, and are a warning.
    """
    parser.set_defaults(unused_parameters=unused)
    kinds = kinds or (Config,)
    parser.add_argument("--config", metavar="YAML", help="file of parameters; flags override it")
    group = parser.add_argument_group("parameters (see docs/parameters.md)")
    for p in (p for kind in kinds for p in (PIPELINE if kind is Config else parameters(kind)) if p is not TRACKER):
        flag = _add_flag(group, p)
        if p.name in unused:
            flag.help = argparse.SUPPRESS
    if Config in kinds:
        chosen = parser.add_argument_group()
        choose = chosen.add_argument(
            TRACKER.flag, dest=_dest(TRACKER), action=_ChooseTracker, metavar="NAME", help=f"{', '.join(TRACKERS)}"
        )
        assert isinstance(choose, _ChooseTracker)
        choose.flags = {p.name: _add_flag(chosen, p) for p in all_tracker_parameters().values()}
        choose.group = chosen
        choose.show(DEFAULT_TRACKER)


class _ChooseTracker(argparse.Action):
    """Stores the name of the tracker, and makes the help show only the flags of this tracker."""

    flags: dict[str, argparse.Action]
    group: argparse._ArgumentGroup

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, values)
        if values in TRACKERS:
            self.show(values)

    def show(self, tracker: str) -> None:
        self.group.title = f"tracker, with the parameters of {tracker} (of others: --tracker NAME --help)"
        own = {p.name: p for p in tracker_parameters(tracker)}
        for name, flag in self.flags.items():
            flag.help = _help(own[name]) if name in own else argparse.SUPPRESS


@overload
def config_from(args: argparse.Namespace) -> Config: ...
@overload
def config_from(args: argparse.Namespace, kind: type[Kind]) -> Kind: ...
def config_from(args: argparse.Namespace, kind: type[Any] = Config) -> Any:
    """The parameters of `kind` from the parsed flags and the file; raises InputError that names what is wrong.

    Deprecated parameters are one warning on stderr, and so are flags of parameters that the command does not use.
    """
    known = {p.name: p for p in parameters(kind)}
    if kind is Config:
        known |= all_tracker_parameters()
    given = {name: _parsed(p, text) for name, p in known.items() if (text := getattr(args, _dest(p))) is not None}
    if without_effect := [known[name].flag for name in given if name in args.unused_parameters]:
        warn(f"{', '.join(without_effect)}: no effect, the command has no such parameter")
    with collected_deprecations() as messages:
        if args.config is not None:
            found = kind.from_yaml(args.config, given)
        else:
            found = kind.from_mapping(given, "command line")
    for message in messages:
        warn(message)
    return found


def _add_flag(group: argparse._ArgumentGroup, p: Parameter) -> argparse.Action:
    metavar = p.type.__name__.upper() if not p.choices else "|".join(p.choices)
    return group.add_argument(p.flag, dest=_dest(p), metavar=metavar, help=_help(p))


def _dest(p: Parameter) -> str:
    return f"parameter_{p.name}"


def _help(p: Parameter) -> str:
    default = ",".join(p.default) if isinstance(p.default, tuple) else str(p.default)
    return f"{p.meaning} (default: {default}{' ' + p.unit if p.unit else ''})".replace("%", "%%")


def _parsed(p: Parameter, text: str) -> Any:
    try:
        if p.type is bool:
            return {"true": True, "false": False}[text.lower()]
        return text if p.type in (str, tuple) else p.type(text)
    except (KeyError, ValueError):
        kind = "true or false" if p.type is bool else f"of type {p.type.__name__}"
        raise InputError(f"{p.flag}: {text!r} is not {kind}") from None


def refuse_camera(source: str, command: str) -> None:
    """Raises InputError for a camera, which has no end."""
    from vps_ros.recording.frames import is_camera

    if is_camera(source):
        number = source if source.isdecimal() else repr(source)
        raise InputError(
            f"{source}: {command} reads recordings, and a camera has no end; take its frames in Python with "
            f"vps_ros.open_frames({number}), or give a video, a folder of images or a bag"
        )


def jobs_of(args: argparse.Namespace, most: int = 1 << 16) -> int:
    """The threads of --jobs; 0: one for each core, `most` at most. Raises InputError for a negative number."""
    if args.jobs < 0:
        raise InputError(f"--jobs {args.jobs}: cannot be negative; 0 takes one for each core")
    return args.jobs or min(os.cpu_count() or 1, most)


def add_labelled_hz_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --hz of commands that label some frames of a recording."""
    parser.add_argument("--hz", type=float, default=1.0, help="labelled frames per second (default: 1)")


def labelled_hz_of(args: argparse.Namespace) -> float:
    """--hz; raises InputError for a rate that is not possible."""
    if not 0 < args.hz <= 1000:
        raise InputError(f"--hz {args.hz:g}: give labelled frames per second, above 0")
    return args.hz


def add_minimum_size_flags(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds the options of MinimumSize; `what` happens to things below the limits."""
    for name, unit in (("area", "that show fewer than PX pixels"), ("height", "that are lower than PX rows")):
        parser.add_argument(
            f"--least-{name}",
            type=int,
            default=0,
            metavar="PX",
            help=f"{what} {unit} in a frame: there the ground truth is void (default: 0, all count)",
        )


def add_youtube_vis_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --youtube-vis, --edition and --video-id."""
    parser.add_argument(
        "--youtube-vis",
        metavar="F.json",
        help="also write the masks of all objects as results of YouTube-VIS, for evaluate --format youtube-vis",
    )
    parser.add_argument(
        "--edition", choices=("2019", "2021"), default="2021", help="of YouTube-VIS: its classes (default: 2021)"
    )
    parser.add_argument(
        "--video-id", type=int, default=1, metavar="N", help="of YouTube-VIS: of the first video (default: 1)"
    )


@contextmanager
def youtube_vis_results(args: argparse.Namespace) -> Iterator[ResultsWriter | None]:
    """The writer of --youtube-vis, or None; the file is written when the block ends without an error."""
    if args.youtube_vis is None:
        yield None
        return
    from vps_ros.datasets.youtube_vis import ResultsWriter

    results = ResultsWriter(args.youtube_vis, args.edition, args.video_id, args.force)
    yield results
    lines, left_out = results.save()
    for line in lines:
        note(line)
    if left_out:
        warn(left_out)
