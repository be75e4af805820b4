"""Things from dense heat maps, stuff from the queries of a k-means mask transformer.

Queries segment stuff well. Dozens of small things are learned in fewer steps from dense predictions: a heat map of
centres and, at each centre, a kernel whose product with the pixel features is the mask, as in PanopticFCN (Li et al.,
CVPR 2021) and CondInst (Tian et al., ECCV 2020). One level at stride 4 is used for all sizes, since the features of the
pixel decoder have the context of the image. A kernel also weights the position relative to the centre, which separates
adjacent objects of similar appearance. In training, queries are also matched to things, which improves the pixel
features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.layers.backbone import ConvNorm
from vps_ros.learning.panoptic_fcn.inference import NOTHING, class_logits, mean_inside, peaks
from vps_ros.learning.panoptic_fcn.layers import BIAS
from vps_ros.learning.panoptic_fcn.model import gathered

UNIT = 16.0
"""Unit of coordinates, in cells of the mask stride."""
PLACE = 5
"""Number of coordinate features of a pixel: 1, y, x, y^2, x^2."""


class ThingOutput(NamedTuple):
    """Heat maps of the centres of things, logits [B, T, h, w], and features of the thing at each cell [B, W, h, w]."""

    centres: Tensor
    states: Tensor


class DenseThings(nn.Module):
    """Pixel decoder features at stride 4 [B, C, h, w] to a ThingOutput.

    Args:
        channels: of the features.
        width: of the heads.
        things: number of classes of things.
        mask_dim: channels of the pixel features for masks.
        embedding_dim: of the association embedding.
    """

    def __init__(self, channels: int, width: int, things: int, mask_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.position = ConvNorm(channels, width)
        self.centre_head = nn.Conv2d(width, things, 3, padding=1)
        nn.init.normal_(self.centre_head.weight, std=0.01)
        nn.init.constant_(self.centre_head.bias, BIAS)
        self.state = ConvNorm(channels, width)
        self.kernel_head = nn.Linear(width, mask_dim + PLACE)
        self.embedding_head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, embedding_dim)
        )

    def forward(self, feature: Tensor) -> ThingOutput:
        return ThingOutput(self.centre_head(self.position(feature)).float(), self.state(feature).float())

    def kernels(self, states: Tensor, cells: Tensor, width: int) -> Tensor:
        """Mask kernels [B, N, D + PLACE] of states [B, N, W] at cells [B, N] of maps that are `width` cells wide.

        With d the distance of a pixel from the centre, the mask logit is w f + b + a d - p d^2 for each axis, p > 0:
        a Gaussian around the thing, shifted and weighted by the pixel features.
        """
        raw = self.kernel_head(states).float()
        appearance, bias, slope, spread = raw.split([raw.shape[-1] - PLACE, 1, 2, 2], dim=-1)
        spread = F.softplus(spread)
        centre = torch.stack([torch.div(cells, width, rounding_mode="floor"), cells % width], -1) / UNIT
        bias = bias - (slope * centre + spread * centre.square()).sum(-1, keepdim=True)
        return torch.cat([appearance, bias, slope + 2 * spread * centre, -spread], -1)


def placed(pixels: Tensor) -> Tensor:
    """Pixel features [B, D, h, w] followed by PLACE coordinates, float32 [B, D + PLACE, h, w]."""
    b, _, h, w = (int(n) for n in pixels.shape)
    y, x = (torch.arange(n, device=pixels.device, dtype=torch.float32) / UNIT for n in (h, w))
    y, x = torch.meshgrid(y, x, indexing="ij")
    place = torch.stack([torch.ones_like(y), y, x, y.square(), x.square()])
    return torch.cat([pixels.float(), place[None].expand(b, -1, -1, -1)], 1)


class Slots(NamedTuple):
    """Things of an image as slots: class logits [B, K, C + 1], mask logits [B, K, h, w], embeddings [B, K, E], and the
    kernels [B, K, D + PLACE] of the masks."""

    classes: Tensor
    masks: Tensor
    embeddings: Tensor
    kernels: Tensor


def thing_slots(
    head: DenseThings, output: ThingOutput, pixels: Tensor, columns: Tensor, count: int, most: int, given: Tensor | None
) -> Slots:
    """The highest peaks as slots; a score is the root of peak times mean probability in the mask.

    Args:
        columns: int64 [T], class of each heat map.
        count: classes without void.
        most: number of slots.
        given: int64 [B, most], the peaks to use, as indices of class and cell.
    """
    found = peaks([output.centres], most, False, given)
    states = gathered(output.states.flatten(2), found.cells)
    kernels = head.kernels(states, found.cells, int(output.centres.shape[3]))
    b, _, h, w = (int(n) for n in pixels.shape)
    masks = (kernels @ placed(pixels).flatten(2)).reshape(b, most, h, w)
    scores = (found.scores * mean_inside(masks.sigmoid(), 0.5)).clamp(min=1e-6).sqrt()
    classes = class_logits(scores, columns[found.classes], found.scores > 0, count)
    return Slots(classes, masks, head.embedding_head(states).float(), kernels)


def stuff_slots(classes: Tensor, masks: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Queries as slots for stuff: class logits [B, N, C + 1] with things as void, and mask logits [B, N, h, w].

    A mask logit is that of the query minus the largest of the others: its sigmoid exceeds 0.5 exactly where the query
    is the largest.

    Args:
        columns: int64 [T], the classes of things.
    """
    best = masks.amax(1, keepdim=True)
    second = masks.masked_fill(masks == best, float("-inf")).amax(1, keepdim=True)
    logits = classes.log_softmax(2)
    void = torch.cat([logits.index_select(2, columns), logits[..., -1:]], 2).logsumexp(2, keepdim=True)
    logits = logits.index_fill(2, columns, NOTHING)
    return torch.cat([logits[..., :-1], void], 2), masks - torch.where(masks == best, second, best)
