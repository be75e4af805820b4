"""`fleet replay`: the pipeline on each bag."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, fingerprint, model_path, shipped_models
from vps_ros.fleet.work import Item, Job
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.frames import FrameSource
from vps_ros.recording.replay import replay
from vps_ros.recording.tables import ENDINGS, TableWriter
from vps_ros.recording.writer import BagWriter
from vps_ros.segmenters import load_segmenter
from vps_ros.trackers.learned import weights_path

_PATHS = ("model", "tracker_weights", "flow_model")
"""Parameters that may name a file."""
_HARDWARE = ("threads", "flow_threads", "allow_fallback")
"""Parameters that do not change the results."""


@dataclass(frozen=True)
class ParameterFile:
    """A file of this machine that the workers need, such as the model.

    Attributes:
        parameter: that names it; "" for the weights of a tracker beside the model.
        path: on the machines of the workers, below a folder of all such files.
    """

    parameter: str
    path: str
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Replay(Job):
    """Runs the pipeline on a bag: result bag, and tables of objects and frames.

    Args:
        topic: image topic, for bags with several.
        damaged: what is left of damaged bags is processed; otherwise they fail.
    """

    name = "replay"
    endings = (".mcap", *ENDINGS)

    def __init__(self, config: Config, topic: str | None = None, damaged: bool = False) -> None:
        self._config, self._topic, self._damaged = config, topic, damaged
        self._files = tuple(_files(config))
        self._parameters = self._describe()

    def parameters(self) -> Mapping[str, Any]:
        return self._parameters

    def prepare(self, threads: int) -> None:
        cv2.setNumThreads(threads)
        files, self._files = self._files, ()
        folder = _placed(files)
        values: dict[str, Any] = {f.parameter: str(folder / f.path) for f in files if f.parameter}
        values["threads"] = self._config.threads or threads
        self._config = dataclasses.replace(self._config, **values)
        try:
            self._segmenter = load_segmenter(self._config.segmenter_parameters)
            # Weights of the tracker are read here, so that wrong ones are reported before the first bag.
            OnlinePanoptic(self._config, self._segmenter)
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}/", "")) from None

    def process(self, item: Item, folder: Path) -> dict[str, Any]:
        # A tracker of its own for each bag: its numbers of tracks and sequences start again.
        self._segmenter.reset()
        pipeline = OnlinePanoptic(self._config, self._segmenter)
        with (
            item.bag.reader(self._topic) as source,
            BagWriter(folder / "result.mcap") as bag,
            TableWriter(folder, "result", item.name) as tables,
        ):
            self._refuse_damage(source)
            sinks = (lambda frame, result: bag.write_frame(result, pipeline.taxonomy), tables.write)
            summary = replay(source.frames(), pipeline, sinks)
            self._refuse_damage(source)
            losses = source.losses
        summary.dropped.update({str(loss): loss.count for loss in losses})
        return {**summary.to_json(), "seconds": summary.seconds, "losses": [loss.what for loss in losses]}

    def _describe(self) -> dict[str, Any]:
        values = {
            "tracker": self._config.tracker,
            **dataclasses.asdict(self._config.segmenter_parameters),
            **dataclasses.asdict(self._config.tracker_parameters),
            **{file.parameter: file.digest for file in self._files},
        }
        kept = {name: value for name, value in values.items() if name not in _HARDWARE}
        shipped = fingerprint(model_path(self._config.model)) if self._config.model in shipped_models() else ""
        return {**kept, "shipped_model": shipped, "topic": self._topic, "damaged": self._damaged}

    def _refuse_damage(self, source: FrameSource) -> None:
        if source.losses and not self._damaged:
            raise InputError(
                f"{source.losses[0].what}; copy the recording again, or pass --damaged to process what is left of it"
            )


def _files(config: Config) -> Iterator[ParameterFile]:
    """The files that parameters name; raises InputError when there is no such model."""
    sets = (config.segmenter_parameters, config.tracker_parameters)
    values = {name: value for one in sets for name, value in dataclasses.asdict(one).items() if name in _PATHS}
    for parameter, value in values.items():
        path = model_path(value) if parameter == "model" else Path(value).expanduser()
        if value in shipped_models() or not path.is_file():
            continue
        yield ParameterFile(parameter, f"{parameter}/{path.name}", path.read_bytes())
        if parameter == "model" and (weights := weights_path(path)).is_file():
            yield ParameterFile("", f"{parameter}/{weights.name}", weights.read_bytes())


def _placed(files: Sequence[ParameterFile]) -> Path:
    """A folder of this machine with the files, the same for all workers with the same files."""
    digest = hashlib.sha256("".join(file.path + file.digest for file in files).encode()).hexdigest()
    folder = Path(tempfile.gettempdir(), f"vps-ros-{getpass.getuser()}-{digest[:32]}")
    for file in files:
        if not (folder / file.path).is_file() or fingerprint(folder / file.path) != file.digest:
            with atomic_write(folder / file.path) as draft:
                draft.write_bytes(file.content)
    return folder
