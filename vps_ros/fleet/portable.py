"""Parameters together with the files that they name, such as the model, for machines that do not have these files."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vps_ros.config import Config
from vps_ros.files import fingerprint, model_path, shipped_models
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


class PortableConfig:
    """A Config that can be pickled for another machine. Raises InputError when the model does not exist.

    Attributes:
        description: all that decides the results, as JSON: values of the parameters, and SHA-256 of the files.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files = tuple(_files(config))
        values = {
            "tracker": config.tracker,
            **dataclasses.asdict(config.segmenter_parameters),
            **dataclasses.asdict(config.tracker_parameters),
            **{file.path if not file.parameter else file.parameter: file.digest for file in self._files},
        }
        self.description = {name: value for name, value in values.items() if name not in _HARDWARE}
        if config.model in shipped_models():
            self.description["shipped_model"] = fingerprint(model_path(config.model))

    def here(self, threads: int) -> Config:
        """The Config with paths of this machine, to whose folder of temporary files they are written; called once.

        Args:
            threads: of each network, where the parameters leave them open.
        """
        # The content of large models is no longer needed in this process.
        files, self._files = self._files, ()
        self._folder = tempfile.TemporaryDirectory(prefix="vps-ros-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        for file in files:
            path = folder / file.path
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(file.content)
        values: dict[str, Any] = {f.parameter: str(folder / f.path) for f in files if f.parameter}
        # Not every tracker has a network for optical flow.
        values |= {name: threads for name in ("threads", "flow_threads") if getattr(self._config, name, None) == 0}
        return dataclasses.replace(self._config, **values)


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
