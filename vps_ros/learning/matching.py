"""The differentiable matching layer of HybridTracker (III-B, equations 4 to 6) and the fusion it is trained with.

Of a pair of frames, M things of the older one and N of the newer one; batches are padded. What a pair of things is, is
`truth` [B, M, N], 1 for one object; `counted` [B, M, N] leaves out padding and pairs of which nothing is known.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.trackers.learned import Fusion, Head

_CERTAIN = 1e-6
"""No probability is nearer to 0 or 1 than this in the loss: its logarithm stays finite."""
_MASKED = -1e9


class Matching(NamedTuple):
    """Probabilities of a match [B, M, N].

    `ahead` is that of j given i (equation 4), `behind` that of i given j, `fused` the logit of both matrices together.
    """

    ahead: Tensor
    behind: Tensor
    fused: Tensor


def match_probability(older: Tensor, newer: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 4 in both directions: softmax of the products over the newer things, and over the older ones.

    Equation 5 is the expectation of j under it. Instances have no order, so that the number j stands for a unit vector,
    whose expectation is the distribution itself.

    Args:
        older: [B, M, D].
        newer: [B, N, D].
        there: bool [B, M, N], False for padding.
    """
    products = (older @ newer.transpose(1, 2)).masked_fill(~there, _MASKED)
    return products.softmax(2) * there, products.softmax(1) * there


def matching_loss(probability: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Equation 6: -(y log p + (1 - y) log(1 - p)), summed over the things that i may be, averaged over i.

    Rows without a counted pair do not take part.
    """
    p = probability.clamp(_CERTAIN, 1 - _CERTAIN)
    each = -(truth * p.log() + (1 - truth) * (1 - p).log()) * counted
    return each.sum() / counted.any(2).sum().clamp(min=1)


class Matcher(nn.Module):
    """The head and the fusion as they are learned; at the start those of a tracker that has learned nothing.

    Args:
        width: length of the segmenter's embeddings.
        hidden: units between the two fully connected layers.
        temperature: of the cosine at the start.
        dropout: share of the hidden units left out while training.
    """

    def __init__(self, width: int, hidden: int, temperature: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.log_scale = nn.Parameter(torch.tensor(math.log(temperature) / -2))
        self.convolution = nn.Conv2d(2, 1, 1)
        start = Fusion()
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([start.pixel, start.instance]).view(1, 2, 1, 1))
            self.convolution.bias.fill_(start.bias)

    def describe(self, embeddings: Tensor) -> Tensor:
        """[..., D] to [..., D]; see trackers/learned.py."""
        unit = F.normalize(embeddings, dim=-1)
        hidden = F.dropout(self.hidden(unit).relu(), self.dropout, self.training)
        return self.log_scale.exp() * (unit + self.out(hidden))

    def forward(self, older: Tensor, newer: Tensor, there: Tensor, dice: Tensor) -> Matching:
        """Embeddings [B, M, D] and [B, N, D], bool [B, M, N], Dice matrix [B, M, N]."""
        ahead, behind = match_probability(self.describe(older), self.describe(newer), there)
        return Matching(ahead, behind, self.convolution(torch.stack([dice, (ahead + behind) / 2], 1))[:, 0])

    def loss(self, matching: Matching, truth: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Of the matching layer, both directions, and of the fusion: equation 6 again, its probability a sigmoid."""
        ahead = matching_loss(matching.ahead, truth, counted)
        behind = matching_loss(matching.behind.transpose(1, 2), truth.transpose(1, 2), counted.transpose(1, 2))
        return (ahead + behind) / 2, matching_loss(matching.fused.sigmoid(), truth, counted)

    def learned(self) -> tuple[Head, Fusion]:
        """Copies for the tracker."""
        layers = (self.hidden.weight, self.hidden.bias, self.out.weight, self.out.bias)
        head = Head(math.exp(float(self.log_scale.detach())), *(t.detach().numpy().copy() for t in layers))
        pixel, instance = self.convolution.weight.detach().flatten().tolist()
        return head, Fusion(pixel, instance, float(self.convolution.bias.detach()))
