"""Identities for the segments of a panoptic network that runs in transformers (pip install transformers torch).

    python examples/transformers_results.py film.mp4 tracked.mp4 facebook/mask2former-swin-tiny-cityscapes-panoptic

Faster, and without torch on the vehicle: `vps-ros export --from hf NAME -o city.onnx`.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation

import vps_ros as vps

STUFF = ("road", "sidewalk", "building", "wall", "fence", "pole", "vegetation", "terrain", "sky")
processor = AutoImageProcessor.from_pretrained(sys.argv[3])
network = AutoModelForUniversalSegmentation.from_pretrained(sys.argv[3]).eval()
names = [name for _, name in sorted(network.config.id2label.items())]
taxonomy = vps.Taxonomy.from_names(names, stuff=[name for name in names if name in STUFF])


def segment(image: np.ndarray) -> tuple[np.ndarray, list[int], list[float]]:
    with torch.no_grad():
        outputs = network(**processor(images=image, return_tensors="pt"))
    (found,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[image.shape[:2]])
    segments, drawn = found["segments_info"], found["segmentation"].numpy()
    masks = np.array([drawn == s["id"] for s in segments], bool).reshape(-1, *image.shape[:2])
    return masks, [s["label_id"] for s in segments], [s["score"] for s in segments]


pipeline = vps.OnlinePanoptic(segmenter=segment, taxonomy=taxonomy)
with vps.VideoWriter(sys.argv[2]) as out:
    for frame in vps.open_frames(sys.argv[1]):
        out.write(vps.draw(frame, pipeline.step(frame)))
