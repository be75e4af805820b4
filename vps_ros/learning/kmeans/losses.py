"""The losses of the k-means mask transformer: of its queries, and of its heat maps of things."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.data.targets import Targets, labelled_share
from vps_ros.learning.kmeans.architecture import LossWeights
from vps_ros.learning.kmeans.dense_things import DenseThings, ThingOutput, placed
from vps_ros.learning.kmeans.model import MaskOutput, Output
from vps_ros.learning.losses import (
    Overlaps,
    association_losses,
    class_loss,
    classes_only_loss,
    discrimination_loss,
    mask_losses,
    match,
    offset_loss,
    overlaps,
    semantic_loss,
)
from vps_ros.learning.panoptic_fcn.assignment import Positives, Truth, heat_maps, positives, truth_of
from vps_ros.learning.panoptic_fcn.losses import dice, focal
from vps_ros.learning.panoptic_fcn.model import gathered

LAYER_WEIGHT = 0.3
"""Weight of the masks of each k-means layer, relative to the final ones."""
POSITIVES = 3
"""Number of cells of a thing, those with the highest scores, that are trained for its mask (7 in PanopticFCN)."""


def total_loss(
    output: Output, targets: Targets, isthing: Tensor, weights: LossWeights, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and each term before weighting, detached. All layers use the final matching (kMaX)."""
    # Unused rows are removed, since the cost of the products below depends on their number.
    targets = targets.trimmed()
    truth = targets.masks().to(output.final.masks.dtype)
    valid = (targets.segments[:, None] >= 0).to(truth.dtype)
    found = overlaps(output.final.masks, truth, valid)
    matching = match(found.dice, output.final.classes, targets)
    labelled = labelled_share(output.final.masks.detach().softmax(1), targets)

    def mask_terms(prediction: MaskOutput, found: Overlaps, cells: Tensor) -> list[Tensor]:
        classes = class_loss(prediction.classes, matching, targets, weights.void, labelled)
        return [classes, *mask_losses(found, matching, cells)]

    terms = [mask_terms(output.final, found, valid.sum())]
    for prediction in output.layers:
        factor = truth.shape[2] // prediction.masks.shape[2]
        coarse = F.avg_pool2d(truth, factor)
        coarse_valid = F.avg_pool2d(valid, factor)
        terms.append(mask_terms(prediction, overlaps(prediction.masks, coarse, coarse_valid), coarse_valid.sum()))
    factors = (weights.layer_classes, LAYER_WEIGHT, LAYER_WEIGHT)
    classes, dice, mask_id = (
        final + factor * sum(rest) for factor, (final, *rest) in zip(factors, zip(*terms, strict=True), strict=True)
    )
    track, track_aux = association_losses(output.embeddings, matching, targets)
    parts = {
        "classes": classes,
        "dice": dice,
        "mask_id": mask_id,
        "semantic": semantic_loss(output.semantic, targets),
        "classes_only": classes_only_loss(output.final.classes, output.final.masks, targets),
        "discrimination": discrimination_loss(output.pixels, truth, targets, generator),
        "offset": offset_loss(output.offsets, truth, targets, isthing),
        "track": track,
        "track_aux": track_aux,
    }
    total = sum(getattr(weights, name) * value for name, value in parts.items())
    return total, {name: value.detach() for name, value in parts.items()} | {"final_dice": terms[0][1].detach()}


def thing_losses(
    head: DenseThings, output: ThingOutput, pixels: Tensor, targets: Targets, isthing: Tensor
) -> dict[str, Tensor]:
    """Focal loss of the heat maps, weighted Dice of the masks, and Video K-Net's equations 1 and 2 on pairs of frames.

    Images 2i and 2i + 1 are a pair. The keys are names of LossWeights.

    Args:
        pixels: [B, D, h, w] of unit length.
        isthing: bool [C].
    """
    truth = truth_of(targets, isthing)
    number = isthing.long().cumsum(0) - 1
    classes = number[truth.targets.classes.clamp(min=0)].clamp(min=0)
    count = truth.things.sum().clamp(min=1)
    b, things, h, w = output.centres.shape
    wanted = heat_maps(truth, truth.things, classes, things, (h, w))
    # Cells where an unlabelled thing may be, such as crowds, are ignored.
    centre = (focal(output.centres, wanted) * truth.valid).sum() / count
    found = positives(output.centres.sigmoid(), truth, classes, POSITIVES)
    mask = _masks(head, output, pixels, truth, found) / count
    cells, weights = found.cells.flatten(1), found.weights[..., None]
    states = gathered(output.states.flatten(2), cells).unflatten(1, found.cells.shape[1:])
    embeddings = head.embedding_head((weights * states).sum(2)).float()
    rows = torch.arange(embeddings.shape[1], device=cells.device).expand(b, -1)
    track, track_aux = association_losses(embeddings, rows.masked_fill(~truth.things, -1), truth.targets)
    return {"centre": centre, "thing_mask": mask, "track": track, "track_aux": track_aux}


def _masks(head: DenseThings, output: ThingOutput, pixels: Tensor, truth: Truth, found: Positives) -> Tensor:
    """Sum of the weighted Dice losses of all things, without void cells."""
    # All workers must exchange gradients of the same parameters, also if their images have no things.
    total = 0.0 * sum(weight.sum() for weight in head.kernel_head.parameters())
    for image, (features, valid) in enumerate(zip(placed(pixels), truth.valid.flatten(2)[:, 0] > 0, strict=True)):
        rows = torch.nonzero(truth.things[image])[:, 0]
        if not len(rows):
            continue
        cells = found.cells[image, rows].flatten()[None]
        states = gathered(output.states[image : image + 1].flatten(2), cells)
        kernels = head.kernels(states, cells, pixels.shape[3])[0].unflatten(0, (len(rows), -1))
        with torch.autocast(pixels.device.type, enabled=False):
            masks = kernels @ features.flatten(1)[:, valid]
        wanted = truth.members[image].flatten(1)[:, valid][rows]
        total = total + (dice(masks.sigmoid(), wanted) * found.weights[image, rows]).sum()
    return total
