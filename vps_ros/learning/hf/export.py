"""Import of a transformers checkpoint as a verified model file of the ONNX contract.

Where decoder layers attend only inside a predicted mask (Mask2Former, OneFormer), a logit near zero may be positive in
torch and negative in ONNX Runtime, and all later values differ by much more than rounding. For verification, torch
therefore uses the attention masks that the file computed. These may differ from torch's own masks only where its
logits are near zero, and the remaining outputs must agree within the tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.export import graphs, verify
from vps_ros.learning.export.onnx_file import OUTPUTS, Deployed
from vps_ros.learning.export.published import Report, source_json, write_verified
from vps_ros.learning.export.verify import Difference, differences, node_outputs
from vps_ros.learning.hf.checkpoint import Checkpoint, open_checkpoint
from vps_ros.learning.hf.classes import Classes, classes_of
from vps_ros.learning.hf.families import Family, family_of, input_spec, task_of, windows
from vps_ros.learning.onnx_import.semantic import class_logits, semantic_thresholds
from vps_ros.segmenters.model_card import InputSpec, ModelCard


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """Within this context, the network can be traced for one image size; its results do not change.

    Deformable attention (Mask2Former, OneFormer) computes its sampling grid from the sizes of the feature maps. In the
    tracer these are integer tensors whose quotients are float64, and ONNX Runtime has no GridSample for float64. With
    Python integers the grid is a float32 constant. There is no padding inside these networks, so the valid ratio of
    each map is 1. The tracer has no adaptive pooling (UPerNet) to sizes that do not divide that of the map.
    """
    changed = []
    for module in model.modules():
        if hasattr(module, "get_reference_points"):
            module.get_reference_points = _with_numbers(module.get_reference_points)
            changed.append((module, "get_reference_points"))
        if hasattr(module, "get_valid_ratio"):
            module.get_valid_ratio = _all_valid
            changed.append((module, "get_valid_ratio"))
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.forward = partial(_pooled, module.output_size)
            changed.append((module, "forward"))
    try:
        yield
    finally:
        for module, name in changed:
            delattr(module, name)


def _with_numbers(original):
    def get_reference_points(spatial_shapes_list, valid_ratios: Tensor, device) -> Tensor:
        return original([(int(h), int(w)) for h, w in spatial_shapes_list], valid_ratios, device)

    return get_reference_points


def _pooled(size: int | tuple[int, int], x: Tensor) -> Tensor:
    """Adaptive average pooling of [1, C, H, W] as a product with constant matrices."""
    rows, columns = (size, size) if isinstance(size, int) else size
    return _averages(rows, int(x.shape[2])) @ x @ _averages(columns, int(x.shape[3])).T


def _averages(count: int, length: int) -> Tensor:
    """float32 [count, length]: the mean over each of `count` parts of an axis, which may overlap."""
    matrix = torch.zeros(count, length)
    for i in range(count):
        start, end = i * length // count, -(-(i + 1) * length // count)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


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

    def __init__(
        self, network: DeployedCheckpoint | DeployedSemantic, path: str | Path, owner: nn.Module, method: str
    ) -> None:
        super().__init__()
        self.network, self._path, self._owner, self._method = network, path, owner, method
        # Largest magnitude of a logit with a different attention mask, relative to the largest of its layer.
        self._distance = 0.0
        self._masks = node_outputs(path, "Less", onnx.TensorProto.BOOL)

    def differences(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        """Differences of the outputs, for the same attention masks, and of the attention masks themselves."""
        found = differences(self, self._path, images, self.network.outputs)
        return (*found, Difference(NAME, self._distance, self._distance))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        with self._with_masks(self._masks(image)):
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
    """A network of queries with the interface of the contract.

    Logits of unused columns are added to void, which does not change the probabilities of the other classes.
    """

    outputs = OUTPUTS

    def __init__(
        self, model: nn.Module, family: Family, classes: Classes, spec: InputSpec, task: Tensor | None = None
    ) -> None:
        super().__init__(model, spec)
        self._read = family.read
        self.register_buffer("task", task)
        rest = sorted(set(range(classes.labels + 1)) - set(classes.columns))
        self._all = list(classes.columns) == list(range(classes.labels))
        self.register_buffer("columns", torch.tensor(classes.columns))
        self.register_buffer("rest", torch.tensor(rest))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs = {} if self.task is None else {"task_inputs": self.task}
        assert self._read is not None
        found = self._read(self.model(pixel_values=self.normalised(image), **inputs))
        logits = found.classes
        if not self._all:
            void = logits[:, :, self.rest].logsumexp(-1, keepdim=True)
            logits = torch.cat([logits[:, :, self.columns], void], -1)
        return logits, found.masks, found.embeddings


SCALE = 10.0
"""Factor of sums of probabilities, as mask logits; post-processing skips masks smaller by 4 than the largest."""


class DeployedSemantic(Deployed):
    """A network for semantic segmentation with the interface of the contract: one mask per class, no embeddings.

    The masks of a network of queries are, as in `post_process_semantic_segmentation`, the sums over all queries of
    class probability times mask probability.
    """

    outputs = OUTPUTS[:2]

    def __init__(self, model: nn.Module, family: Family, classes: Classes, spec: InputSpec) -> None:
        super().__init__(model, spec)
        self._family = family
        self._side = min(spec.width, spec.height)
        self._wide = spec.width >= spec.height
        self._windows = windows(spec, self._side) if family.name == "EoMT" else [0]
        self.register_buffer("columns", torch.tensor(classes.columns))
        self.register_buffer("classes", torch.from_numpy(class_logits(len(classes.taxonomy))))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.normalised(image)
        maps = self._maps(pixels) if len(self._windows) == 1 else self._joined(pixels)
        # A sum, because a constant cannot be an output of a graph.
        return self.classes + 0 * maps[:, :1, 0, :1], maps[:, self.columns]

    def _maps(self, pixels: Tensor) -> Tensor:
        if self._family.logits is not None:
            return self._family.logits(self.model, pixels)
        assert self._family.read is not None
        found = self._family.read(self.model(pixel_values=pixels))
        masks, grid = found.masks, self._family.limits.mask_grid
        if grid:
            masks = F.interpolate(masks, size=(grid, grid), mode="bilinear", align_corners=False)
        return SCALE * torch.einsum("bqc,bqhw->bchw", found.classes.softmax(-1)[..., :-1], masks.sigmoid())

    def _joined(self, pixels: Tensor) -> Tensor:
        """The mean over all windows that contain a node."""
        axis, side = (3, self._side) if self._wide else (2, self._side)
        maps = self._maps(torch.cat([pixels.narrow(axis, start, side) for start in self._windows]))
        nodes = maps.shape[axis]
        length = pixels.shape[axis] * nodes // side
        total, count = 0, 0
        for window, start in zip(maps.split(1), self._windows, strict=True):
            first = start * nodes // side
            pads = (first, length - first - nodes) if self._wide else (0, 0, first, length - first - nodes)
            total = total + F.pad(window, pads)
            count = count + F.pad(torch.ones_like(window[:, :1]), pads)
        return total / count


def import_checkpoint(
    name: str,
    path: str | Path,
    size: tuple[int, int] | None = None,
    half: bool = False,
    taxonomy: str | None = None,
    reporter: Reporter = SILENT,
    task: str | None = None,
    components: int = 0,
) -> Report:
    """Writes a verified model file of the contract.

    Args:
        name: a folder that transformers saved, or a name on its hub, optionally with @REVISION.
        size: width and height of the input; by default that of the processor.
        half: compute in float16; the types of inputs and outputs do not change.
        taxonomy: see classes_of.
        task: one of families.TASKS; by default see task_of.
        components: of semantic segmentation, see onnx_import.semantic.import_semantic.

    Raises InputError when the checkpoint cannot be used; RuntimeError when the outputs of ONNX Runtime differ.
    """
    checkpoint = open_checkpoint(name)
    family = family_of(checkpoint)
    task = task_of(checkpoint, family, task)
    if components and task != "semantic":
        raise InputError(f"{name}: --components is for semantic segmentation, and this is for {task} segmentation")
    classes = classes_of(checkpoint, taxonomy, task)
    spec = input_spec(checkpoint, family, size, task)
    card = _card(checkpoint, family, classes, spec, half, task, components)
    words = checkpoint.tokens(TASK, checkpoint.config.get("task_seq_len", 77)) if family.task else None
    model = checkpoint.load(family.model, family.settings)
    graphs.require_size(model, name)
    network: DeployedCheckpoint | DeployedSemantic
    if task == "semantic":
        network = DeployedSemantic(model, family, classes, spec).eval()
    else:
        network = DeployedCheckpoint(model, family, classes, spec, words).eval()
    images = verify.probes(spec.height, spec.width)
    reporter.note(
        f"{name}: {family.name} for {task} segmentation, {len(classes.taxonomy)} classes of {classes.taxonomy.name}"
    )
    owner, method = family.decides(model) if family.decides else (None, "")

    def compare(_: nn.Module, draft: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        return WithFixedAttention(network, draft, owner, method).differences(images)

    with traceable(model):
        return write_verified(
            network,
            card,
            path,
            name,
            images,
            reporter,
            compare=compare if owner else None,
            half=half,
            outputs=network.outputs,
        )


def _card(
    checkpoint: Checkpoint, family: Family, classes: Classes, spec: InputSpec, half: bool, task: str, components: int
) -> ModelCard:
    source = source_json(f"{family.name} (transformers {transformers.__version__})", half, **checkpoint.origin)
    if task == "semantic":
        limits = semantic_thresholds(spec, components)
        return ModelCard(checkpoint.short, classes.taxonomy, spec, "softmax_queries", limits, source)
    limits = family.limits if task == "panoptic" else family.instance_limits
    return ModelCard(checkpoint.short, classes.taxonomy, spec, "sigmoid", limits, source)
