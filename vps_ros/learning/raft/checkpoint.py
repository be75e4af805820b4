"""Published checkpoints of RAFT, of torchvision and of princeton-vl/RAFT, to verified model files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.export import verify
from vps_ros.learning.export.published import Report, read, require_same, source_json, state_dict_of, write_verified
from vps_ros.learning.raft.network import LARGE, SMALL, SMALLEST_SIDE, Raft
from vps_ros.segmenters.model_card import FlowCard, InputSpec

SIZE = (640, 192)
UPDATES = 12
"""Updates of the flow in the evaluation of torchvision, and in the training of both."""
OUTPUTS = ("flow",)
_RULES = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"\.(layer\d\.\d)\.conv(\d)\.", r".\1.convnormrelu\2.0."),
    (r"\.(layer\d\.\d)\.norm(\d)\.", r".\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", r"update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])\.", r"update_block.recurrent_block.convgru1.conv\1."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
"""Names of princeton-vl/RAFT to those of `Raft`, which are torchvision's."""
_SECOND_COPY = re.compile(r"^cnet\.layer\d\.0\.norm3\.")
"""The normalisation of a shortcut, which princeton-vl/RAFT saves under a second name, too."""


def load(path: str | Path, updates: int = UPDATES) -> Raft:
    """The network of a checkpoint, in eval mode; no code in the file is run.

    Raises InputError when the file cannot be read, or its tensors are not those of RAFT or RAFT-S.
    """
    where = str(path)
    published = read(path, "princeton-vl/RAFT or torchvision")
    tensors, names = _renamed(published)
    if "update_block.flow_head.conv1.weight" not in tensors:
        raise InputError(f"{where}: not a checkpoint of RAFT, it lacks update_block.flow_head.conv1.weight")
    architecture = LARGE if "mask_predictor.conv.weight" in tensors else SMALL
    with torch.device("meta"):
        network = Raft(architecture, updates)
    expected = network.state_dict()
    require_same(expected, tensors, where, "RAFT" if architecture is LARGE else "RAFT-S")
    network.load_state_dict(state_dict_of(tensors, expected, names, where), assign=True)
    return network.eval()


def _renamed(published: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by our names, and the published name of each. Checkpoints of nn.DataParallel begin with `module.`."""
    tensors, names = {}, {}
    for name, tensor in published.items():
        ours = name.removeprefix("module.")
        if _SECOND_COPY.match(ours):
            continue
        for pattern, replacement in _RULES:
            ours = re.sub(pattern, replacement, ours)
        tensors[ours], names[ours] = tensor, name
    return tensors, names


class Deployed(nn.Module):
    """The network of a flow model: uint8 [2, H, W, 3] RGB, source and target, to float32 [H, W, 2]."""

    def __init__(self, network: Raft) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        source, target = (images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1).split(1)
        return (self.network(source, target)[0].permute(1, 2, 0),)


def import_checkpoint(
    path: str | Path,
    output: str | Path,
    size: tuple[int, int] | None = None,
    updates: int = UPDATES,
    reporter: Reporter = SILENT,
) -> Report:
    """Writes the model file of a checkpoint, after comparing it in ONNX Runtime with torch.

    Args:
        size: width and height of the images; the network pads them to multiples of 8.
        updates: of the flow, at least 1; fewer are faster and less accurate.

    Raises InputError for a wrong checkpoint or size; RuntimeError when the outputs of ONNX Runtime differ.
    """
    width, height = size or SIZE
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(f"--size {width}x{height}: RAFT needs at least {SMALLEST_SIDE} pixels on each side")
    if updates < 1:
        raise InputError(f"--updates {updates}: give at least 1")
    network = load(path, updates)
    name = "raft" if network.architecture is LARGE else "raft-small"
    card = FlowCard(name, InputSpec(height, width), updates, source_json("RAFT", checkpoint=Path(path).name))
    images = verify.probes(height, width, frames=2)
    return write_verified(Deployed(network).eval(), card, output, str(path), images, reporter, outputs=OUTPUTS)
