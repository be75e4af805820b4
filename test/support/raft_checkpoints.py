"""Checkpoints of RAFT and RAFT-S as torchvision and as princeton-vl/RAFT save them, with frozen random weights."""

import re

import numpy as np
import torch

from support.fcn_small import weights
from vps_ros.learning.raft.network import LARGE, SMALL, Raft

ARCHITECTURES = {"small": SMALL, "large": LARGE}
LAYOUTS = ("torchvision", "princeton")
_TO_PRINCETON = (
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^(.net)\.convnormrelu\.0\.", r"\1.conv1."),
    (r"^(.net)\.convnormrelu\.1\.", r"\1.norm1."),
    (r"^(.net)\.conv\.", r"\1.conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
    (r"motion_encoder\.convcorr(\d)\.0\.", r"encoder.convc\1."),
    (r"motion_encoder\.convflow(\d)\.0\.", r"encoder.convf\1."),
    (r"motion_encoder\.conv\.0\.", "encoder.conv."),
    (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
)


def tensors(size="small", layout="torchvision"):
    """The tensors of a checkpoint by their published names."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Raft(ARCHITECTURES[size]).state_dict().items()}
    found = weights({name: shape for name, shape in shapes.items() if shape})
    found |= {name: torch.tensor(0) for name, shape in shapes.items() if not shape}
    return found if layout == "torchvision" else _as_princeton(found, size)


def _as_princeton(found, size):
    renamed = {}
    for name, tensor in found.items():
        for pattern, theirs in _TO_PRINCETON:
            name = re.sub(pattern, theirs, name)
        unit = r"gru.conv\2\1." if size == "large" else r"gru.conv\2."
        name = "module." + re.sub(r"recurrent_block\.convgru(\d)\.conv(.)\.", unit, name)
        renamed[name] = tensor
        # The normalisation of a shortcut is saved under a second name, too.
        if name.startswith("module.cnet") and "downsample.1" in name:
            renamed[name.replace("downsample.1", "norm3")] = tensor
    return renamed


def checkpoint(path, size="small", layout="torchvision", change=lambda tensors: None):
    """Writes a checkpoint, after `change` of its tensors."""
    found = tensors(size, layout)
    change(found)
    torch.save(found, path)


def images(height, width):
    """Source and target, uint8 [height, width, 3]: smoothed noise, and the same moved by (3, -2) pixels."""
    noise = np.random.RandomState(0).randint(0, 256, (height + 16, width + 16, 3))
    smooth = sum(np.roll(noise, (y, x), (0, 1)) for y in range(4) for x in range(4)) // 16
    return [smooth[8 - y :, 8 - x :][:height, :width].astype(np.uint8) for x, y in ((0, 0), (3, -2))]
