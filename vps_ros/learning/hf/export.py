"""Import of a transformers checkpoint as a verified model file of the ONNX contract.

Where decoder layers attend only inside a predicted mask (Mask2Former, OneFormer), a logit near zero may be positive in
torch and negative in ONNX Runtime, and all later values differ by much more than rounding. For verification, torch
therefore uses the attention masks that the file computed. These may differ from torch's own masks only where its
logits are near zero, and the remaining outputs must agree within the tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.export import graphs, verify
from vps_ros.learning.export.onnx_file import OUTPUTS, Deployed
from vps_ros.learning.export.published import Report, source_json, write_verified
from vps_ros.learning.export.verify import Difference, differences, open_telling
from vps_ros.learning.hf.checkpoint import Checkpoint, open_checkpoint
from vps_ros.learning.hf.classes import Classes, classes_of
from vps_ros.learning.hf.families import Family, family_of, input_spec
from vps_ros.segmenters.model_card import InputSpec, ModelCard


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """While the block runs, the network computes the same in a way that can be traced for images of one size.

    Deformable attention (Mask2Former, OneFormer) makes its sampling grid from the sizes of the feature maps. To the
    tracer these are tensors of integers, whose quotients are float64, and so becomes the grid: ONNX Runtime has no
    GridSample for it. As plain numbers they make a constant grid of float32. Nothing is padded inside these networks,
    so the share of each map that is valid is one.
    """
    changed = []
    for module in model.modules():
        if hasattr(module, "get_reference_points"):
            module.get_reference_points = _with_numbers(module.get_reference_points)
            changed.append((module, "get_reference_points"))
        if hasattr(module, "get_valid_ratio"):
            module.get_valid_ratio = _all_valid
            changed.append((module, "get_valid_ratio"))
    try:
        yield
    finally:
        for module, name in changed:
            delattr(module, name)


def _with_numbers(original):
    def get_reference_points(spatial_shapes_list, valid_ratios: Tensor, device) -> Tensor:
        return original([(int(h), int(w)) for h, w in spatial_shapes_list], valid_ratios, device)

    return get_reference_points


def _all_valid(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(len(mask), 2, dtype=dtype, device=mask.device)


NAME = "attention"


class AsDecided(nn.Module):
    """A network, uint8 [1, H, W, 3] to a tuple of outputs, that attends where a file does.

    Args:
        network: whose part `owner` has the method `method`, called once before each decoder layer and once after the
            last; it takes, third, the size of the layer's map, and returns mask logits [1, N, h, w] and, behind them,
            where not to attend, bool [heads, N, cells].
        path: the model file, in which the latter are the results of Less.
    """

    def __init__(self, network: nn.Module, path: str | Path, owner: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self._path, self._owner, self._method = network, path, owner, method
        # Of the logit that was decided otherwise from zero, as a share of the largest of its layer.
        self._behind = 0.0
        self._session, self._names = open_telling(path, "Less", onnx.TensorProto.BOOL)

    def differences(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        """How far the file is from the network: each output given where to attend, and that itself."""
        found = differences(self, self._path, images, OUTPUTS)
        return (*found, Difference(NAME, self._behind, self._behind))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        chosen = self._session.run(self._names, {"image": image.numpy()}) if self._names else []
        with self._given([torch.from_numpy(one) for one in chosen]):
            return self.network(image)

    @contextmanager
    def _given(self, chosen: Sequence[Tensor]) -> Iterator[None]:
        original, left = getattr(self._owner, self._method), list(chosen)

        def decided(*args: object, **named: object) -> tuple[Tensor, ...]:
            *found, own = original(*args, **named)
            if not left:
                # The call after the last layer, whose decision nobody heeds.
                return (*found, own)
            told = left.pop(0)
            size = named["attention_mask_target_size"] if named else args[2]
            self._weigh(F.interpolate(found[-1], size=size, mode="bilinear", align_corners=False), own, told)
            return (*found, told)

        setattr(self._owner, self._method, decided)
        try:
            yield
        finally:
            delattr(self._owner, self._method)
        if left:
            raise RuntimeError(f"{self._path}: {len(left)} decisions of the graph are none of the network's")

    def _weigh(self, logits: Tensor, own: Tensor, told: Tensor) -> None:
        if own.shape != told.shape:
            raise RuntimeError(f"{self._path}: attends to {list(told.shape)}, torch to {list(own.shape)}")
        # All heads attend alike.
        differs, logits = (own != told)[0], logits.flatten(2)[0]
        if differs.any():
            self._behind = max(self._behind, float(logits[differs].abs().max() / logits.abs().max().clamp(min=1e-6)))


TASK = "the task is panoptic"
"""What OneFormer is told, in the words it was trained with."""


class Imported(Deployed):
    """A network of transformers as the contract wants it.

    Class logits that belong to no class are added to void's, which changes no probability of the others.
    """

    def __init__(
        self, model: nn.Module, family: Family, classes: Classes, spec: InputSpec, task: Tensor | None = None
    ) -> None:
        super().__init__(model, spec)
        self._family = family
        self.register_buffer("task", task)
        rest = sorted(set(range(classes.labels + 1)) - set(classes.columns))
        self._all = list(classes.columns) == list(range(classes.labels))
        self.register_buffer("columns", torch.tensor(classes.columns))
        self.register_buffer("rest", torch.tensor(rest))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        told = {} if self.task is None else {"task_inputs": self.task}
        found = self._family.read(self.model(pixel_values=self.normalised(image), **told))
        logits = found.classes
        if not self._all:
            void = logits[:, :, self.rest].logsumexp(-1, keepdim=True)
            logits = torch.cat([logits[:, :, self.columns], void], -1)
        return logits, found.masks, found.embeddings


def import_checkpoint(
    name: str,
    path: str | Path,
    size: tuple[int, int] | None = None,
    half: bool = False,
    taxonomy: str | None = None,
    reporter: Reporter = SILENT,
) -> Report:
    """Writes a model file of the contract, whole or not at all.

    Args:
        name: a folder that transformers saved, or a name of its hub, which may end in @REVISION.
        size: width and height of the input; by default what the checkpoint's processor says.
        half: compute in float16; inputs and outputs stay as they are.
        taxonomy: see classes_of.

    Raises InputError when the checkpoint cannot be used; RuntimeError when ONNX Runtime computes something else.
    """
    checkpoint = open_checkpoint(name)
    family = family_of(checkpoint)
    classes = classes_of(checkpoint, taxonomy)
    spec = input_spec(checkpoint, family, size)
    card = _card(checkpoint, family, classes, spec, half)
    task = checkpoint.tokens(TASK, checkpoint.config.get("task_seq_len", 77)) if family.task else None
    model = checkpoint.load(family.model, family.settings)
    graphs.require_room(model, name)
    network = Imported(model, family, classes, spec, task).eval()
    images = verify.probes(spec.height, spec.width)
    reporter.note(f"{name}: {family.name}, {len(classes.taxonomy)} classes of {classes.taxonomy.name}")
    part = family.decides(model) if family.decides else None

    def compare(network: nn.Module, draft: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        return AsDecided(network, draft, *part).differences(images)

    with traceable(model):
        return write_verified(network, card, path, name, images, reporter, compare=compare if part else None, half=half)


def _card(checkpoint: Checkpoint, family: Family, classes: Classes, spec: InputSpec, half: bool) -> ModelCard:
    source = source_json(f"{family.name} (transformers {transformers.__version__})", half, **checkpoint.origin)
    return ModelCard(checkpoint.short, classes.taxonomy, spec, "sigmoid", family.limits, source)
