"""A Mask2Former with small random weights in a folder, as transformers saves one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from vps_ros.taxonomy import KITTI_STEP

SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
TINY = {
    "backbone_config": SWIN | {"out_features": ["stage1", "stage2", "stage3", "stage4"]},
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 16,
    "dim_feedforward": 16,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "num_attention_heads": 2,
    "num_queries": 12,
    "train_num_points": 64,
}
"""The true architecture, with small widths."""


def save_tiny(folder: Path) -> Path:
    """A checkpoint of the 19 classes in reverse order, whose images are normalised with halves; gives the folder."""
    torch.manual_seed(3)
    names = [c.name.replace("-", " ") for c in KITTI_STEP.classes][::-1]
    config = transformers.Mask2FormerConfig.from_dict({**TINY, "id2label": dict(enumerate(names))})
    transformers.Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    halves = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 64, "width": 128}}
    (folder / "preprocessor_config.json").write_text(json.dumps(halves))
    return folder
