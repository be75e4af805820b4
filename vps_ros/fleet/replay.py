"""`fleet replay`: the pipeline on each bag."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from vps_ros.config import Config
from vps_ros.fleet.portable import PortableConfig
from vps_ros.fleet.work import Item, Job
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.replay import replay
from vps_ros.recording.tables import ENDINGS, TableWriter
from vps_ros.recording.writer import BagWriter
from vps_ros.segmenters import load_segmenter


class Replay(Job):
    """Runs the pipeline on a bag: result bag, and tables of objects and frames.

    Args:
        topic: image topic, for bags with several.
        damaged: what is left of damaged bags is processed; otherwise they fail.
    """

    name = "replay"
    endings = (".mcap", *ENDINGS)

    def __init__(self, config: Config, topic: str | None = None, damaged: bool = False) -> None:
        self._portable, self._topic, self._damaged = PortableConfig(config), topic, damaged

    def parameters(self) -> Mapping[str, Any]:
        return {**self._portable.description, "topic": self._topic, "damaged": self._damaged}

    def prepare(self, threads: int) -> None:
        cv2.setNumThreads(threads)
        self._threads, self._config = threads, self._portable.here(threads)
        self._segmenter = load_segmenter(self._config.segmenter_parameters)
        # Weights of the tracker are read here, so that wrong ones are reported before the first bag.
        OnlinePanoptic(self._config, self._segmenter)

    def process(self, item: Item, folder: Path) -> dict[str, Any]:
        # A tracker of its own for each bag: its numbers of tracks and sequences start again.
        self._segmenter.reset()
        pipeline = OnlinePanoptic(self._config, self._segmenter)
        with (
            item.bag.reader(self._topic, self._damaged) as source,
            BagWriter(folder / "result.mcap") as bag,
            TableWriter(folder, "result", item.name) as tables,
        ):
            sinks = (lambda frame, result: bag.write_frame(result, pipeline.taxonomy), tables.write)
            summary = replay(source.frames(), pipeline, sinks, self._threads)
            losses = source.losses
        summary.dropped.update({str(loss): loss.count for loss in losses})
        return {**summary.to_json(), "seconds": summary.seconds, "losses": [loss.what for loss in losses]}
