"""Which kernels become things of the panoptic map: the rule of segmenters/postprocess.py, inside the network.

Linking looks at these alone (paper, 3.2). Post-processing applies the same rule to the pixels of the camera image,
here it is applied to the cells of the masks.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vps_ros.segmenters.model_card import Thresholds

STUFF_PIXELS = 4096
"""Least stuff segment of the released code, on KITTI's images."""
KITTI_PIXELS = 1242 * 375


RULE = Thresholds(thing=0.25, stuff=0.05, overlap=0.6, mask=0.5, mode="pixel_wise")
"""Of the released code: overlap 0.6, masks from 0.5, instances from 0.25 (KITTI-STEP), stuff from 0.05.

Every pixel goes to the largest class score * mask probability, of things and stuff alike (paper, 3.3).
"""


def limits(width: int, height: int) -> Thresholds:
    """RULE with the least area of stuff that suits images of this size."""
    return dataclasses.replace(RULE, stuff_area=round(STUFF_PIXELS * width * height / KITTI_PIXELS))


def kept_things(scores: Tensor, masks: Tensor, isthing: Tensor, rule: Thresholds) -> Tensor:
    """float [B, N]: 1 for a thing that gets enough of its mask, in competition with all others.

    Args:
        scores: [B, N], of each kernel's best class.
        masks: [B, N, P] logits.
        isthing: bool [N].
    """
    probability = masks.sigmoid()
    running = scores >= torch.where(isthing, rule.thing, rule.stuff)
    value = probability * torch.where(running, scores, 0.0)[:, :, None]
    numbers = torch.arange(masks.shape[1], device=masks.device)[None, :, None]
    wins, inside = (value.argmax(1, keepdim=True) == numbers), probability > rule.mask
    # Sums of whole numbers are slow where they run.
    won, covered, left = (cells.to(masks.dtype).sum(2) for cells in (wins, inside, wins & inside))
    return ((won > rule.overlap * covered) & (left > 0) & running & isthing).to(masks.dtype)
