"""The pipeline's parameters as command line flags, made from config.py."""

from __future__ import annotations

import argparse
from typing import Any, overload

from vps_ros.config import Config, Kind, LiveConfig, Parameter, parameters
from vps_ros.errors import InputError


def add_parameter_flags(parser: argparse.ArgumentParser, *kinds: type[Config] | type[LiveConfig]) -> None:
    """`--config YAML` and one flag for each parameter of `kinds` (Config); a flag wins over the file."""
    parser.add_argument("--config", metavar="YAML", help="file of parameters; flags win over it")
    group = parser.add_argument_group("parameters (see docs/parameters.md)")
    for p in (p for kind in kinds or (Config,) for p in parameters(kind)):
        group.add_argument(
            f"--{p.name.replace('_', '-')}",
            dest=f"parameter_{p.name}",
            metavar=p.type.__name__.upper() if not p.choices else "|".join(p.choices),
            help=f"{p.meaning} (default: {_shown(p.default)}{' ' + p.unit if p.unit else ''})".replace("%", "%%"),
        )


@overload
def config_from(args: argparse.Namespace) -> Config: ...
@overload
def config_from(args: argparse.Namespace, kind: type[Kind]) -> Kind: ...
def config_from(args: argparse.Namespace, kind: type[Any] = Config) -> Any:
    """A `kind` of the parsed flags; raises InputError that names the flag or the file's entry at fault."""
    given = {
        p.name: _parsed(p, text) for p in parameters(kind) if (text := getattr(args, f"parameter_{p.name}")) is not None
    }
    if args.config is not None:
        return kind.from_yaml(args.config, given)
    return kind.from_mapping(given, "command line")


def _parsed(p: Parameter, text: str):
    try:
        if p.type is bool:
            return {"true": True, "false": False}[text.lower()]
        return text if p.type in (str, tuple) else p.type(text)
    except (KeyError, ValueError):
        kind = "true or false" if p.type is bool else f"of type {p.type.__name__}"
        raise InputError(f"--{p.name.replace('_', '-')}: {text!r} is not {kind}") from None


def _shown(default: object) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)
