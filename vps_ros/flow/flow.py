"""The interface of optical flow, its parameters, and the registry of the flows."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.parameters import Parameters, parameter

FLOWS: dict[str, str] = {"dis": "vps_ros.flow.dis:DisFlow", "raft": "vps_ros.flow.raft:RaftFlow"}
"""Name -> module:class. A module is imported when its flow is used."""
PRESETS = ("ultrafast", "fast", "medium")


@dataclass(frozen=True)
class WorkingSizeParameters(Parameters):
    """Parameters of the resolution at which masks are compared."""

    flow_height: int = parameter(
        192,
        "height of the images and masks for optical flow; a larger one resolves smaller objects",
        unit="px",
        low=16,
        high=2160,
        source="chosen",
    )


@dataclass(frozen=True)
class FlowParameters(WorkingSizeParameters):
    """Parameters of the optical flow; raises InputError also where `flow` and `flow_model` do not fit together."""

    flow: str = parameter(
        "dis",
        "how optical flow is computed: dis, by OpenCV, or raft, by the network flow_model",
        choices=FLOWS,
        source="chosen: the fastest",
    )
    flow_preset: str = parameter(
        "ultrafast", "of flow dis: fineness of the optical flow", choices=PRESETS, source="chosen: the fastest"
    )
    flow_model: str = parameter(
        "", "of flow raft: path of the file that `vps-ros export --from raft` wrote", source="none is included"
    )
    flow_providers: tuple[str, ...] = parameter(
        ("cpu",),
        "of flow raft: ONNX Runtime execution providers, in order of preference",
        choices=("cpu", "cuda"),
        source="as providers",
    )
    flow_threads: int = parameter(
        0, "of flow raft: threads of the network; 0: one for each core", low=0, high=256, source="as threads"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.flow == "raft" and not self.flow_model:
            raise InputError(
                "flow raft needs flow_model, a file made by `vps-ros export --from raft CHECKPOINT -o OUT.onnx`"
            )
        if self.flow_model and self.flow == "dis":
            raise InputError(f"flow_model {self.flow_model!r} has no effect with flow dis; set flow to raft")


class Flow(ABC):
    """Optical flow between images at the working size.

    Args:
        height: of the working image in pixels; the aspect is that of the camera image. Smaller images keep their size.

    Attributes:
        uses_guess: whether the result depends on `guess`.
    """

    uses_guess: ClassVar[bool] = True

    def __init__(self, height: int = 192) -> None:
        self._height = height

    @classmethod
    @abstractmethod
    def of(cls, parameters: FlowParameters) -> Flow:
        """The flow that the parameters describe; raises InputError when its model cannot be used."""

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Working image, uint8 [h, w, 3], of an RGB image, uint8 [H, W, 3]."""
        height, width = working_size(image.shape[0], image.shape[1], self._height)
        if (height, width) == image.shape[:2]:
            return image
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)

    @abstractmethod
    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What a call takes for a working image, uint8 [h, w] or [h, w, C]."""

    @abstractmethod
    def __call__(
        self, source: NDArray[np.uint8], target: NDArray[np.uint8], guess: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Displacement (x, y) of each pixel from `source` to `target`, float32 [h, w, 2], in pixels.

        Args:
            source: as `prepare` returns it.
            target: as `source`.
            guess: float32 [h, w, 2], flow from which the search may start.
        """


def working_size(height: int, width: int, working_height: int) -> tuple[int, int]:
    """(height, width) of the working image for a camera image of `height` and `width`."""
    scale = min(1.0, working_height / height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def make_flow(parameters: FlowParameters) -> Flow:
    """The flow that the parameters choose; raises InputError when its model cannot be used."""
    module, _, name = FLOWS[parameters.flow].partition(":")
    return getattr(importlib.import_module(module), name).of(parameters)
