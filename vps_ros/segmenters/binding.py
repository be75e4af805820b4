"""A session on buffers that stay: no memory is allocated and no state leaves its device from frame to frame."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vps_ros.segmenters import cuda

State = tuple[tuple[int, ...], np.dtype]
"""Shape and type of a state tensor."""


class Binding:
    """Runs a session.

    Args:
        outputs: those wanted, as one run gave them; their shapes do not change.
        states: of the inputs `state_*`, each of which becomes what the output `next_state_*` was.
        on_gpu: whether the network runs on a GPU: state stays there, and the image and the outputs are pinned.

    Attributes:
        pinned: whether buffers are.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        image: tuple[int, ...],
        outputs: Mapping[str, NDArray],
        states: Mapping[str, State],
        on_gpu: bool,
    ) -> None:
        self._session, self._states, self._device = session, dict(states), "cuda" if on_gpu else "cpu"
        self._binding = session.io_binding()
        self._outputs = {name: np.empty_like(value) for name, value in outputs.items()}
        self._image = np.zeros(image, np.uint8) if on_gpu else None
        arrays = [*self._outputs.values()] if self._image is None else [self._image, *self._outputs.values()]
        self.pinned = on_gpu and sum(map(self._pin, arrays)) == len(arrays)
        for name, array in self._outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._now: dict[str, ort.OrtValue] = {}
        self._next: dict[str, ort.OrtValue] = {}
        self.reset()

    def reset(self) -> None:
        """State to zeros."""
        self._now, self._next = (
            {name: self._value(np.zeros(shape, dtype)) for name, (shape, dtype) in self._states.items()}
            for _ in range(2)
        )

    def run(self, image: NDArray[np.uint8], options: ort.RunOptions) -> dict[str, NDArray]:
        """Outputs by name for uint8 [1, H, W, 3]; they are overwritten by the next run."""
        if self._image is not None:
            np.copyto(self._image, image)
            image = self._image
        self._binding.bind_cpu_input("image", image)
        for name in self._states:
            self._binding.bind_ortvalue_input(name, self._now[name])
            self._binding.bind_ortvalue_output(f"next_{name}", self._next[name])
        self._session.run_with_iobinding(self._binding, options)
        self._now, self._next = self._next, self._now
        return dict(self._outputs)

    def _value(self, array: NDArray) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)

    def _pin(self, array: NDArray) -> bool:
        pinned = cuda.pin(array)
        if pinned:
            weakref.finalize(self, cuda.unpin, array)
        return pinned
