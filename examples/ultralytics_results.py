"""Identities for the masks of a YOLO network that runs in Ultralytics' own program (AGPL-3.0; pip install ultralytics).

    python examples/ultralytics_results.py film.mp4 tracked.mp4 yolo11n-seg.pt

Without that program on the vehicle: `vps-ros export --from yolo yolo11n-seg.onnx -o things.onnx`.
"""

from __future__ import annotations

import sys

import numpy as np

import vps_ros as vps


def masks_of(result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ultralytics.engine.results.Results of one image -> masks bool [N, H, W], class ids [N], scores [N]."""
    if result.masks is None:
        return np.zeros((0, *result.orig_shape), bool), np.zeros(0, int), np.zeros(0)
    masks, boxes = result.masks.data.cpu().numpy() > 0.5, result.boxes
    return masks, boxes.cls.cpu().numpy().astype(int), boxes.conf.cpu().numpy()


if __name__ == "__main__":
    from ultralytics import YOLO

    network = YOLO(sys.argv[3])

    def segment(image: np.ndarray):
        # Ultralytics takes BGR; with retina_masks, the masks have the size of the image.
        return masks_of(network.predict(image[..., ::-1], retina_masks=True, verbose=False)[0])

    pipeline = vps.OnlinePanoptic(segmenter=segment, taxonomy=network.names)
    with vps.VideoWriter(sys.argv[2]) as out:
        for frame in vps.open_frames(sys.argv[1]):
            out.write(vps.draw(frame, pipeline.step(frame)))
