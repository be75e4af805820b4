"""On which device training computes, and with how many bits."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.optimizer import Optimizers


def device_of(name: str) -> torch.device:
    """The device of a recipe's entry; `auto` is the first GPU, or the CPU where there is none.

    Raises InputError when there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"schedule: device {name!r}; write auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"schedule: device {name!r}; training runs on cpu and cuda")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= there:
        raise InputError(f"schedule: device {name!r}, but torch sees {there} GPU(s); write auto, or cpu")
    return device


class Precision:
    """Automatic mixed precision: the forward pass in fewer bits, weights and their updates in 32.

    Gradients of float16 are scaled, lest small ones vanish (Micikevicius et al., Mixed Precision Training, ICLR 2018).
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Raises InputError when the device has no such numbers."""
        if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise InputError("schedule: this GPU has no bfloat16; write `precision: float16`")
        self._device, self._kind = device.type, getattr(torch, name)
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def forward(self) -> AbstractContextManager:
        """In which the forward pass runs."""
        return torch.autocast(self._device, self._kind, enabled=self._kind != torch.float32)

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()

    def unscale(self, optimizers: Optimizers) -> None:
        """Brings gradients back to their size, once all of a step are there."""
        for part in optimizers.parts:
            self._scaler.unscale_(part)

    def update(self) -> None:
        """After a step, taken or left out: the scale follows what the gradients were."""
        self._scaler.update()

    def state_dict(self) -> dict:
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        if state:
            self._scaler.load_state_dict(state)
