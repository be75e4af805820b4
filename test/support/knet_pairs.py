"""Two pairs of frames whose second frames look alike: only the first ones tell what the box is."""

from __future__ import annotations

import functools

import numpy as np
import torch

from vps_ros.learning.data.targets import Targets, make_targets, stack
from vps_ros.learning.video_knet.architecture import Architecture, LossWeights
from vps_ros.learning.video_knet.losses import pair_loss
from vps_ros.learning.video_knet.model import VideoKNet
from vps_ros.segmenters.model_card import InputSpec, ModelCard
from vps_ros.taxonomy import CITYSCAPES

ROAD, SKY, PERSON, CAR = 0, 10, 11, 13
W, H = 64, 32
SMALL = Architecture(
    queries=4,
    channels=(16, 16, 16, 16),
    depths=(0, 1, 1, 1),
    stages=2,
    dim=32,
    embedding_dim=16,
    heads=2,
)
STEPS = 50


def frame(kind: int, colour: int, shift: int):
    """uint8 [H, W, 3], class ids and instances [H, W]: a box before sky and road."""
    image, semantic, instance = np.empty((H, W, 3), np.uint8), np.empty((H, W), np.uint8), np.zeros((H, W), np.uint16)
    image[: H // 2], image[H // 2 :] = (120, 170, 230), (90, 80, 90)
    semantic[: H // 2], semantic[H // 2 :] = SKY, ROAD
    box = np.s_[8:28, 16 + shift : 40 + shift]
    image[box], semantic[box], instance[box] = colour, kind, 1
    return image, semantic, instance


BRIGHT, AFTER_BRIGHT = frame(CAR, 230, 0), frame(CAR, 150, 4)
DARK, AFTER_DARK = frame(PERSON, 20, 0), frame(PERSON, 150, 4)
FRAMES = (BRIGHT, AFTER_BRIGHT, DARK, AFTER_DARK)


def images(frames=FRAMES) -> torch.Tensor:
    """float32 [B, 3, H, W] in -1..1."""
    stacked = torch.from_numpy(np.stack([f[0] for f in frames]))
    return (stacked.permute(0, 3, 1, 2).float() - 127.5) / 127.5


def targets(frames=FRAMES) -> Targets:
    return stack([make_targets(f[1][2::4, 2::4], f[2][2::4, 2::4], CITYSCAPES, 8) for f in frames])


@functools.cache
def trained() -> tuple[VideoKNet, list[float]]:
    """A small network that has learned both pairs, in eval mode, and its loss before each step."""
    # On busy cores the threads of one operator wait for each other, which costs far more than these small ones save.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train()
    finally:
        torch.set_num_threads(threads)


def _train() -> tuple[VideoKNet, list[float]]:
    torch.manual_seed(0)
    model = VideoKNet(SMALL, CITYSCAPES.isthing).train()
    optimizer = torch.optim.AdamW(model.parameters(), 6e-3, weight_decay=1e-4)
    losses = []
    for _ in range(STEPS):
        found = pair_loss(model, model.encode(images()), targets(), LossWeights())
        optimizer.zero_grad()
        found.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(found.total.detach()))
    return model.eval(), losses


def card(rule, name: str = "knet", size: tuple[int, int] = (W, H)) -> ModelCard:
    return ModelCard(name, CITYSCAPES, InputSpec(size[1], size[0]), "sigmoid", rule)
