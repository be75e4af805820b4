"""`fleet label`: a labelling project with sparse labels for each bag, for review on one machine."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from vps_ros.config import Config
from vps_ros.fleet.portable import PortableConfig
from vps_ros.fleet.work import Item, Job
from vps_ros.flow.flow import FlowParameters, make_flow
from vps_ros.labelling.project import Settings
from vps_ros.labelling.sparse import extract, label_sparse
from vps_ros.segmenters import load_segmenter

_FLOW = FlowParameters(flow_height=384, flow_preset="medium")
"""As `vps-ros label new`."""


class Label(Job):
    """The first step of labelling, `vps-ros label new`, on a bag: a project folder in a ZIP file.

    Args:
        topic: image topic, for bags with several.
        hz: labelled frames of a second.
    """

    name = "label"
    endings = (".project.zip",)

    def __init__(self, config: Config, topic: str | None = None, hz: float = 1.0) -> None:
        self._portable, self._topic, self._hz = PortableConfig(config), topic, hz
        self._model = config.model

    def parameters(self) -> Mapping[str, Any]:
        return {**self._portable.description, "topic": self._topic, "hz": self._hz}

    def prepare(self, threads: int) -> None:
        cv2.setNumThreads(threads)
        self._config = self._portable.here(threads)
        self._taxonomy = load_segmenter(self._config.segmenter_parameters).taxonomy

    def process(self, item: Item, folder: Path) -> dict[str, Any]:
        settings = Settings(
            recording=item.bag.where,
            topic=self._topic or "",
            name=PurePosixPath(item.name).name,
            model=self._model,
            second="",
            masks="",
            hz=self._hz,
            image_hz=0.0,
            taxonomy_name=self._taxonomy.name,
            classes=tuple(self._taxonomy.to_json()),
        )
        root = folder / "project"
        with item.bag.reader(self._topic) as source:
            frames = extract(root, settings, source.frames())
        project = label_sparse(root, settings, frames, self._config, None, make_flow(_FLOW))
        with zipfile.ZipFile(folder / "result.project.zip", "w") as archive:
            for path in sorted(p for p in root.rglob("*") if p.is_file()):
                archive.write(path, str(path.relative_to(root)))
        return {"frames": len(frames.stamps), "labelled": len(frames.sparse), "tracks": len(project.state().tracks)}
