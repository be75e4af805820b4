"""From a checkpoint of transformers to a model file that is verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from torch import Tensor, nn

from vps_ros import __version__
from vps_ros.files import atomic_write
from vps_ros.learning import graphs, verify
from vps_ros.learning.export import OUTPUTS, Deployed
from vps_ros.learning.hf.checkpoint import Checkpoint, open_checkpoint
from vps_ros.learning.hf.classes import Classes, classes_of
from vps_ros.learning.hf.decisions import AsDecided
from vps_ros.learning.hf.families import Family, family_of
from vps_ros.learning.hf.patches import traceable
from vps_ros.learning.hf.processor import input_spec
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.segmenters.model_card import InputSpec, ModelCard

TASK = "the task is panoptic"
"""What OneFormer is told, in the words it was trained with."""


class Report(NamedTuple):
    """What was written: its card, its family's name, and how far it is from torch."""

    card: ModelCard
    family: str
    differences: tuple[verify.Difference, ...]


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
    voice: Voice = SILENT,
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
    voice.note(f"{name}: {family.name}, {len(classes.taxonomy)} classes of {classes.taxonomy.name}")
    example = torch.from_numpy(images[0])
    with atomic_write(path) as draft:
        voice.note(f"tracing it for {spec.width}x{spec.height}")
        with traceable(model):
            graphs.trace(network, example, draft, OUTPUTS)
        graph = graphs.fold(draft)
        graphs.save(graphs.halved(graph) if half else graph, card, draft)
        voice.note(f"comparing ONNX Runtime with torch on {len(images)} images")
        if family.decides is None:
            found = verify.differences(network, draft, images, OUTPUTS)
        else:
            found = AsDecided(network, draft, *family.decides(model)).differences(images)
        verify.demand(found, name, half)
    return Report(card, family.name, found)


def _card(checkpoint: Checkpoint, family: Family, classes: Classes, spec: InputSpec, half: bool) -> ModelCard:
    source = {
        "imported_by": f"vps-ros {__version__}",
        "from": f"{family.name} (transformers {transformers.__version__})",
        **checkpoint.origin,
        "precision": "float16" if half else "float32",
    }
    return ModelCard(checkpoint.short, classes.taxonomy, spec, "sigmoid", family.limits, json.dumps(source))
