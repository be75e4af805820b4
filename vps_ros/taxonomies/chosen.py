"""A taxonomy that somebody names, or brings along."""

from __future__ import annotations

import json
from pathlib import Path

from vps_ros.errors import InputError
from vps_ros.taxonomies import ALL
from vps_ros.taxonomy import Taxonomy


def chosen(choice: str) -> Taxonomy:
    """The taxonomy of a data set by its name, or of a JSON file with a list of {id, name, isthing, color}.

    Raises InputError when there is none.
    """
    if choice in ALL:
        return ALL[choice]
    path = Path(choice)
    if path.suffix != ".json":
        raise InputError(f"--taxonomy {choice}: no such data set; there are {', '.join(ALL)}, or give a JSON file")
    try:
        return Taxonomy.from_json(path.stem, json.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as JSON ({str(error).splitlines()[0]})") from None
