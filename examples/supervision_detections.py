"""Identities for supervision.Detections: what a function of your program returns can be the segmenter.

    python examples/supervision_detections.py film.mp4 tracked.mp4

`detect` takes the place of a network, such as `sv.Detections.from_inference(model.infer(image)[0])` of roboflow's.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import supervision as sv

import vps_ros as vps


def detect(image: np.ndarray) -> sv.Detections:
    """Connected red regions of uint8 RGB [H, W, 3]."""
    red = cv2.inRange(image, (150, 0, 0), (255, 100, 100))
    count, regions = cv2.connectedComponents(red)
    masks = np.array([regions == i for i in range(1, count)], bool).reshape(-1, *red.shape)
    ids, scores = np.zeros(len(masks), int), np.full(len(masks), 0.9)
    return sv.Detections(xyxy=sv.mask_to_xyxy(masks), mask=masks, class_id=ids, confidence=scores)


pipeline = vps.OnlinePanoptic(segmenter=detect, taxonomy=["red thing"])
with vps.VideoWriter(sys.argv[2]) as out:
    for frame in vps.open_frames(sys.argv[1]):
        result = pipeline.step(frame)
        print(result.to_supervision().tracker_id.tolist())
        out.write(vps.draw(frame, result))
