"""The classes of the data sets: ids, names, things and colours as each data set defines them.

The tables, with their sources, are in taxonomies.yaml.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from vps_ros.errors import InputError
from vps_ros.reading import read_yaml
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, MOTCHALLENGE_STEP, Taxonomy, parse_classes

_TABLES = {
    name: Taxonomy(name, parse_classes(table["classes"], table.get("first_id", 0)))
    for name, table in read_yaml(Path(__file__).with_suffix(".yaml")).items()
}
VIPSEG, VIPER, COCO_PANOPTIC = (_TABLES[name] for name in ("vipseg", "viper", "coco-panoptic"))
YOUTUBE_VIS_2019, YOUTUBE_VIS_2021 = (_TABLES[f"youtube-vis-{year}"] for year in (2019, 2021))
ADE20K, MAPILLARY_VISTAS = (_TABLES[name] for name in ("ade20k", "mapillary-vistas"))
VSPW = Taxonomy("vspw", tuple(replace(c, isthing=False) for c in VIPSEG.classes))
"""The classes of VIPSeg, all stuff, since VSPW has no instances.

Source: Miao et al., VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild, CVPR 2021.
"""

ALL: dict[str, Taxonomy] = {
    t.name: t
    for t in (
        *(KITTI_STEP, CITYSCAPES, MOTCHALLENGE_STEP, VIPSEG, VSPW, VIPER, YOUTUBE_VIS_2019, YOUTUBE_VIS_2021),
        *(COCO_PANOPTIC, ADE20K, MAPILLARY_VISTAS),
    )
}
"""By name."""


def load_taxonomy(choice: str, option: str = "--taxonomy") -> Taxonomy:
    """The taxonomy of a data set by its name, or of a JSON file with a list of {id, name, isthing, color}.

    `option` is the command line option, for messages. Raises InputError when there is no such taxonomy.
    """
    if choice in ALL:
        return ALL[choice]
    path = Path(choice)
    if path.suffix != ".json":
        raise InputError(f"{option} {choice}: no such data set; choose one of {', '.join(ALL)}, or give a JSON file")
    try:
        return Taxonomy.from_json(path.stem, json.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as JSON ({str(error).splitlines()[0]})") from None
