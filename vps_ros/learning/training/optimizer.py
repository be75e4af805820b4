"""How weights are updated: Muon for matrices and convolutions, AdamW for the rest; device and mixed precision.

Muon (Jordan et al., 2024) replaces the momentum of a weight matrix by the nearest orthogonal matrix, so that rare
directions are learned as fast as frequent ones. Scaled to the step size of AdamW (Liu et al., 2025), it uses the same
learning rate and decay. It costs some matrix products per step, and is of use where the number of steps is small.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.training.distributed import WorkerGroup

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al.: after five iterations every singular value is in 0.7..1.2."""
ADAMW_SCALE = 0.2
"""Usual root mean square of a step of AdamW, to which an orthogonal matrix is scaled (Liu et al.)."""

PRETRAINED = "backbone.network."
PRETRAINED_RATE = 0.1


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Approximately U V^T of a matrix U S V^T."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(torch.bfloat16)
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; a convolution is a matrix with one row for each output channel.

    The workers of a group have the same gradients; each computes a part of the matrix products.
    """

    workers = WorkerGroup()

    def __init__(self, params, lr: float, weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            updates = []
            for p in learning:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                average = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                updates.append(p.grad.lerp(average, group["momentum"]).flatten(1))
            mine = _split_work([u.shape for u in updates], self.workers.size)[self.workers.rank]
            parts = [orthogonal(u) if i in mine else None for i, u in enumerate(updates)]
            for p, part in zip(learning, self.workers.gather(parts, updates), strict=True):
                scale = ADAMW_SCALE * max(part.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(part.view_as(p), alpha=-group["lr"] * scale)


def _split_work(shapes: list[torch.Size], workers: int) -> list[set[int]]:
    """The matrices of each worker, with about the same number of operations for all."""
    cost = [m * n * min(m, n) for m, n in shapes]
    shares: list[set[int]] = [set() for _ in range(workers)]
    loads = [0] * workers
    for i in sorted(range(len(shapes)), key=lambda i: -cost[i]):
        least = loads.index(min(loads))
        shares[least].add(i)
        loads[least] += cost[i]
    return shares


class Optimizers:
    """Several optimisers as one: step, zero_grad, learning rate, state.

    The learning rate of a parameter group is multiplied by its `rate`.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @classmethod
    def muon(cls, model: nn.Module, learning_rate: float, weight_decay: float) -> Optimizers:
        """Muon for matrices, AdamW without decay for the rest.

        Weights of a pretrained backbone, whose names contain PRETRAINED, have AdamW at PRETRAINED_RATE of the rate.
        """
        learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
        pretrained = [p for n, p in learning.items() if PRETRAINED in n]
        named = {n: p for n, p in learning.items() if PRETRAINED not in n}
        # Queries and the rows of classifiers are lists of vectors, not linear maps.
        single = {n for n, p in named.items() if p.ndim < 2 or n == "queries" or "class_head" in n or "semantic" in n}
        return cls(
            Muon([p for n, p in named.items() if n not in single], learning_rate, weight_decay),
            torch.optim.AdamW(
                [
                    {"params": [named[n] for n in named if n in single]},
                    *([{"params": pretrained, "rate": PRETRAINED_RATE}] if pretrained else []),
                ],
                learning_rate,
                betas=(0.9, 0.98),
                weight_decay=0.0,
                fused=True,
            ),
        )

    @classmethod
    def adamw(
        cls, model: nn.Module, learning_rate: float, weight_decay: float, rate: Callable[[str], float]
    ) -> Optimizers:
        """AdamW for fine-tuning: weight decay for all parameters but those of normalisation, biases and embeddings.

        Args:
            rate: from the name of a parameter to the factor of its learning rate.
        """
        without_decay = {
            id(p)
            for m in model.modules()
            if isinstance(m, (nn.LayerNorm, nn.Embedding, nn.BatchNorm2d, nn.GroupNorm))
            for p in m.parameters()
        }
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                decay = 0.0 if p.ndim < 2 or id(p) in without_decay else weight_decay
                groups.setdefault((decay, rate(name)), []).append(p)
        parts = [{"params": ps, "weight_decay": decay, "rate": r} for (decay, r), ps in groups.items()]
        return cls(torch.optim.AdamW(parts, learning_rate, fused=True))

    def join(self, workers: WorkerGroup) -> None:
        """Makes this one of several workers that make the same updates."""
        for part in self.parts:
            if isinstance(part, Muon):
                part.workers = workers

    def step(self, learning_rate: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group.get("rate", 1.0)
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def device_of(name: str) -> torch.device:
    """The device of a recipe; `auto` is the first GPU, or the CPU if there is none.

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
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"schedule: device {name!r}, but torch finds {count} GPU(s); write auto, or cpu")
    return device


class Precision:
    """Automatic mixed precision: the forward pass in 16 bits, weights and their updates in 32.

    Gradients of float16 are scaled, so that small ones are not rounded to 0 (Micikevicius et al., Mixed Precision
    Training, ICLR 2018).
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Raises InputError when the device does not support bfloat16."""
        if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise InputError("schedule: this GPU has no bfloat16; write `precision: float16`")
        self._device, self._kind = device.type, getattr(torch, name)
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def forward(self) -> AbstractContextManager:
        """The context of the forward pass."""
        return torch.autocast(self._device, self._kind, enabled=self._kind != torch.float32)

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()

    def unscale(self, optimizers: Optimizers) -> None:
        """Divides the gradients of a step by the scale."""
        for part in optimizers.parts:
            self._scaler.unscale_(part)

    def update(self) -> None:
        """Adapts the scale after each step, also after a skipped one."""
        self._scaler.update()

    def state_dict(self) -> dict:
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        if state:
            self._scaler.load_state_dict(state)
