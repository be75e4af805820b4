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
from vps_ros.learning.export.verify import Difference, differences, open_with_node_outputs
from vps_ros.learning.hf.checkpoint import Checkpoint, open_checkpoint
from vps_ros.learning.hf.classes import Classes, classes_of
from vps_ros.learning.hf.families import Family, family_of, input_spec
from vps_ros.segmenters.model_card import InputSpec, ModelCard


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """Within this context, the network can be traced for one image size; its results do not change.

    Deformable attention (Mask2Former, OneFormer) computes its sampling grid from the sizes of the feature maps. In the
    tracer these are integer tensors whose quotients are float64, and ONNX Runtime has no GridSample for float64. With
    Python integers the grid is a float32 constant. There is no padding inside these networks, so the valid ratio of
    each map is 1.
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


class WithFixedAttention(nn.Module):
    """A network, uint8 [1, H, W, 3] to a tuple of outputs, that uses the attention masks of a model file.

    Args:
        network: `method` of its submodule `owner` is called once before each decoder layer and once after the last. Its
            third argument is the size of the layer's feature map; it returns mask logits [1, N, h, w] and, last, the
            attention mask, bool [heads, N, cells], true where not to attend.
        path: the model file, in which the attention masks are the outputs of Less nodes.
    """

    def __init__(self, network: nn.Module, path: str | Path, owner: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self._path, self._owner, self._method = network, path, owner, method
        # Largest magnitude of a logit with a different attention mask, relative to the largest of its layer.
        self._distance = 0.0
        self._session, self._names = open_with_node_outputs(path, "Less", onnx.TensorProto.BOOL)

    def differences(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        """Differences of the outputs, for the same attention masks, and of the attention masks themselves."""
        found = differences(self, self._path, images, OUTPUTS)
        return (*found, Difference(NAME, self._distance, self._distance))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        chosen = self._session.run(self._names, {"image": image.numpy()}) if self._names else []
        with self._with_masks([torch.from_numpy(one) for one in chosen]):
            return self.network(image)

    @contextmanager
    def _with_masks(self, chosen: Sequence[Tensor]) -> Iterator[None]:
        original, left = getattr(self._owner, self._method), list(chosen)

        def decided(*args: object, **named: object) -> tuple[Tensor, ...]:
            *found, own = original(*args, **named)
            if not left:
                # The attention mask after the last layer is not used.
                return (*found, own)
            mask = left.pop(0)
            size = named["attention_mask_target_size"] if named else args[2]
            self._record_distance(F.interpolate(found[-1], size=size, mode="bilinear", align_corners=False), own, mask)
            return (*found, mask)

        setattr(self._owner, self._method, decided)
        try:
            yield
        finally:
            delattr(self._owner, self._method)
        if left:
            raise RuntimeError(f"{self._path}: {len(left)} attention masks of the graph are not in the network")

    def _record_distance(self, logits: Tensor, own: Tensor, mask: Tensor) -> None:
        if own.shape != mask.shape:
            raise RuntimeError(f"{self._path}: attends to {list(mask.shape)}, torch to {list(own.shape)}")
        # All heads have the same mask.
        differs, logits = (own != mask)[0], logits.flatten(2)[0]
        if differs.any():
            self._distance = max(
                self._distance, float(logits[differs].abs().max() / logits.abs().max().clamp(min=1e-6))
            )


TASK = "the task is panoptic"
"""Text input of OneFormer, as in its training."""


class DeployedCheckpoint(Deployed):
    """A network of transformers with the interface of the contract.

    Logits of unused columns are added to void, which does not change the probabilities of the other classes.
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
        inputs = {} if self.task is None else {"task_inputs": self.task}
        found = self._family.read(self.model(pixel_values=self.normalised(image), **inputs))
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
    """Writes a verified model file of the contract.

    Args:
        name: a folder that transformers saved, or a name on its hub, optionally with @REVISION.
        size: width and height of the input; by default that of the processor.
        half: compute in float16; the types of inputs and outputs do not change.
        taxonomy: see classes_of.

    Raises InputError when the checkpoint cannot be used; RuntimeError when the outputs of ONNX Runtime differ.
    """
    checkpoint = open_checkpoint(name)
    family = family_of(checkpoint)
    classes = classes_of(checkpoint, taxonomy)
    spec = input_spec(checkpoint, family, size)
    card = _card(checkpoint, family, classes, spec, half)
    task = checkpoint.tokens(TASK, checkpoint.config.get("task_seq_len", 77)) if family.task else None
    model = checkpoint.load(family.model, family.settings)
    graphs.require_size(model, name)
    network = DeployedCheckpoint(model, family, classes, spec, task).eval()
    images = verify.probes(spec.height, spec.width)
    reporter.note(f"{name}: {family.name}, {len(classes.taxonomy)} classes of {classes.taxonomy.name}")
    owner, method = family.decides(model) if family.decides else (None, "")

    def compare(network: nn.Module, draft: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        return WithFixedAttention(network, draft, owner, method).differences(images)

    with traceable(model):
        return write_verified(
            network, card, path, name, images, reporter, compare=compare if owner else None, half=half
        )


def _card(checkpoint: Checkpoint, family: Family, classes: Classes, spec: InputSpec, half: bool) -> ModelCard:
    source = source_json(f"{family.name} (transformers {transformers.__version__})", half, **checkpoint.origin)
    return ModelCard(checkpoint.short, classes.taxonomy, spec, "sigmoid", family.limits, source)
