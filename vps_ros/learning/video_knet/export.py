"""A Video K-Net to a recurrent model of the ONNX contract, checked over several frames before it is written."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.export import OUTPUTS
from vps_ros.learning.graphs import OPSET
from vps_ros.learning.verify import TOLERANCE
from vps_ros.learning.video_knet.model import VideoKNet, class_logits
from vps_ros.learning.video_knet.state import NAMES, State
from vps_ros.output import whole
from vps_ros.segmenters.contract import METADATA_KEY, ModelCard

FRAMES = 3
"""Of the sequence that torch and ONNX Runtime are compared on, each going on from its own state."""


class Deployed(nn.Module):
    """The network as the contract wants it: uint8 [1, H, W, 3] RGB and a State in; three tensors and the next out."""

    def __init__(self, model: VideoKNet, card: ModelCard) -> None:
        super().__init__()
        self.model, self.rule, spec = model, card.thresholds, card.input
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(spec.std).view(1, 3, 1, 1))

    def forward(self, image: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        x = (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale
        output = self.model(x, State(*state), self.rule)
        final = output.stages[-1]
        return class_logits(final.classes), final.masks, output.embeddings, *output.state


def export(model: VideoKNet, card: ModelCard, path: str | Path) -> float:
    """Writes the model, whole or not at all, and returns the largest relative difference from torch.

    Raises InputError when the card does not fit the model; RuntimeError when ONNX Runtime computes something else.
    """
    spec, sides = card.input, model.architecture.SIDES
    if not sides.take((spec.width, spec.height)):
        raise InputError(f"input {spec.width}x{spec.height}: both sides must be {sides}")
    if card.taxonomy.isthing.tolist() != model.isthing.tolist():
        raise InputError(
            f"the classes of {card.taxonomy.name} are not the model's {len(model.isthing)}, things and stuff in order"
        )
    deployed = Deployed(model, card).eval()
    generator = torch.Generator().manual_seed(0)
    shape = (FRAMES, 1, spec.height, spec.width, 3)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    with whole(path) as draft:
        trace(deployed, images[0], draft)
        graph = onnx.load(str(draft))
        graph.metadata_props.add(key=METADATA_KEY, value=card.to_json())
        onnx.checker.check_model(graph)
        onnx.save(graph, str(draft))
        difference = compare(deployed, draft, images)
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"{path}: ONNX Runtime differs from torch by {difference:.2g} of an output's range over {FRAMES} "
                f"frames, more than {TOLERANCE:g}; nothing was written"
            )
    return difference


def trace(deployed: Deployed, image: Tensor, path: Path) -> None:
    """Writes the graph that runs on images of this size, without its card."""
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns of sizes it takes as constants, which they are, and of its own age.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deployed,
            (image, *deployed.model.empty_state()),
            str(path),
            input_names=["image", *NAMES],
            output_names=[*OUTPUTS, *(f"next_{name}" for name in NAMES)],
            opset_version=OPSET,
            dynamo=False,
        )


@torch.no_grad()
def compare(deployed: Deployed, path: Path, images: Tensor) -> float:
    """Largest difference between torch and ONNX Runtime on a sequence, relative to each output's largest magnitude.

    Args:
        images: uint8 [frames, 1, H, W, 3].
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state = tuple(deployed.model.empty_state())
    theirs = [t.numpy() for t in state]
    worst = 0.0
    for image in images:
        expected = deployed(image, *state)
        got = session.run(None, {"image": image.numpy(), **dict(zip(NAMES, theirs, strict=True))})
        for a, b in zip(got, (t.numpy() for t in expected), strict=True):
            if a.shape != b.shape or not np.isfinite(a).all():
                return float("inf")
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)))
        state, theirs = expected[len(OUTPUTS) :], got[len(OUTPUTS) :]
    return worst
