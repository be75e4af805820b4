"""Optical flow by a network, RAFT (Teed and Deng, ECCV 2020) as in HybridTracker III-C, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.flow.flow import Flow, FlowParameters
from vps_ros.segmenters.model_card import REMEDY, read_flow_card
from vps_ros.segmenters.runtime import (
    available_providers,
    explain_error,
    first_line,
    open_session,
    providers_in_use,
)


class RaftFlow(Flow):
    """Optical flow between RGB images at the working size; the network gets them at its own size.

    Args:
        model: path of a file that `vps-ros export --from raft` wrote: uint8 [2, H, W, 3], source and target, to
            float32 [H, W, 2].
        height: see Flow.
        providers: of ONNX Runtime, in order of preference.
        threads: of the network; 0: one for each core.

    Attributes:
        card: metadata of the model.

    Raises InputError when the file is no such model, or a provider cannot be used.
    """

    uses_guess = False

    def __init__(
        self, model: str | Path, height: int = 192, providers: tuple[str, ...] = ("cpu",), threads: int = 0
    ) -> None:
        super().__init__(height)
        self._path = Path(model).expanduser()
        if not self._path.is_file():
            raise InputError(
                f"flow_model {str(model)!r}: no such file; give one that `vps-ros export --from raft` wrote"
            )
        wanted = available_providers(providers, False)
        self._session = open_session(self._path, wanted, threads)
        self._providers = providers_in_use(self._session, wanted, False)
        self.card = read_flow_card(self._session, str(self._path))
        size = (self.card.input.height, self.card.input.width)
        self._check("input", "image", self._session.get_inputs(), "uint8", [2, *size, 3])
        self._check("output", "flow", self._session.get_outputs(), "float", [*size, 2])

    @classmethod
    def of(cls, parameters: FlowParameters) -> RaftFlow:
        p = parameters
        return cls(p.flow_model, p.flow_height, p.flow_providers, p.flow_threads)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image

    def __call__(
        self, source: NDArray[np.uint8], target: NDArray[np.uint8], guess: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """See Flow; `guess` has no influence. Raises InputError when there is not enough memory."""
        height, width = source.shape[:2]
        size = (self.card.input.width, self.card.input.height)
        images = np.stack([_resized(image, size) for image in (source, target)])
        try:
            (flow,) = self._session.run(["flow"], {"image": images})
        except Exception as error:
            why = explain_error(error, self._providers) or f"the network fails ({first_line(error)})"
            raise InputError(f"{self._path}: {why}") from None
        scale = np.array([width / size[0], height / size[1]], np.float32)
        return _resized(flow, (width, height)) * scale

    def _check(self, what: str, name: str, given: list, kind: str, shape: list[int]) -> None:
        """Raises InputError unless the only input or output is as in the contract."""
        found = [(one.name, one.type, one.shape) for one in given]
        if found != [(name, f"tensor({kind})", shape)]:
            raise InputError(f"{self._path}: its {what} is {found}, not {name} {kind} {shape}; {REMEDY}")


def _resized(image: NDArray, size: tuple[int, int]) -> NDArray:
    """The image [h, w, C] stretched to `size`, (width, height)."""
    if image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
