"""Identities for the masks of any function: here, connected regions of one colour.

    python examples/custom_segmenter.py film.mp4 tracked.mp4

A neural network takes the place of `segment` with the same three results; for one of torch, for example:
    out = network(image); return (out.masks > 0.5).cpu().numpy(), out.labels.cpu().numpy(), out.scores.cpu().numpy()
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

import vps_ros as vps

CLASSES = vps.Taxonomy.from_names(["background", "red thing"], stuff=["background"])


def segment(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 RGB [H, W, 3] -> masks bool [N, H, W], class ids [N], scores [N] in 0..1."""
    red, green, blue = (image[..., c].astype(int) for c in range(3))
    is_red = ((red > 150) & (green < 100) & (blue < 100)).astype(np.uint8)
    count, regions = cv2.connectedComponents(is_red)
    # Region 0 is everything else.
    masks = np.array([regions == i for i in range(count)])
    return masks, np.minimum(np.arange(count), 1), np.full(count, 0.9)


pipeline = vps.OnlinePanoptic(segmenter=segment, taxonomy=CLASSES)
with vps.VideoWriter(sys.argv[2]) as out:
    for frame in vps.open_frames(sys.argv[1]):
        result = pipeline.step(frame)
        print([(track.track_id, int(result.mask(track).sum())) for track in result.visible])
        out.write(vps.draw(frame, result))
