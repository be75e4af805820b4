"""Class and mask logits -> Segmentation."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Segmentation
from vps_ros.segmenters.contract import Thresholds
from vps_ros.segmenters.preprocess import Fit
from vps_ros.taxonomy import Taxonomy


def from_logits(
    outputs: Mapping[str, NDArray], where: Fit, taxonomy: Taxonomy, limits: Thresholds, activation: str
) -> Segmentation:
    for name in ("class_logits", "mask_logits", "query_embeddings"):
        if not np.isfinite(outputs[name]).all():
            raise DroppedFrame(f"the network gave NaN or infinity in {name}; the frame is dropped")
    c = outputs["class_logits"][0].astype(np.float32)
    l = outputs["mask_logits"][0].astype(np.float32)
    p = np.exp(c - c.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    column = p[:, :-1].argmax(1)
    score = p[np.arange(len(p)), column]
    thing = taxonomy.isthing[column]
    keep = score >= np.where(thing, limits.thing, limits.stuff)
    H, W = where.camera
    up = np.empty((len(l), H, W), np.float32)
    ys = np.arange(H) + 0.5
    xs = np.arange(W) + 0.5
    ys = np.clip(ys * where.resized[0] / H * l.shape[1] / where.input[0] - 0.5, 0, l.shape[1] - 1).astype(np.float32)
    xs = np.clip(xs * where.resized[1] / W * l.shape[2] / where.input[1] - 0.5, 0, l.shape[2] - 1).astype(np.float32)
    for i in range(len(l)):
        up[i] = cv2.remap(l[i], np.tile(xs, (H, 1)), np.tile(ys[:, None], (1, W)), cv2.INTER_LINEAR)
    if activation == "sigmoid":
        up = 1 / (1 + np.exp(-up))
    else:
        up = np.exp(up - up.max(0))
        up /= up.sum(0)
    out = np.zeros((H, W), np.uint8)
    found = []
    of_class = {}
    for q in np.argsort(-score, kind="stable"):
        if not keep[q]:
            continue
        m = up[q] > limits.mask
        new = m & (out == 0)
        if new.sum() == 0 or new.sum() <= limits.overlap * m.sum():
            continue
        if not thing[q] and column[q] in of_class:
            out[new] = of_class[column[q]]
            continue
        found.append(q)
        out[new] = len(found)
        if not thing[q]:
            of_class[column[q]] = len(found)
    areas = np.bincount(out.ravel(), minlength=len(found) + 1)[1:]
    ok = areas >= np.where(thing[found], limits.thing_area, limits.stuff_area) * where.pixels_per_input_pixel
    lut = np.zeros(len(found) + 1, np.uint8)
    lut[1:][ok] = np.arange(1, ok.sum() + 1)
    out = lut[out]
    found = np.array(found, int)[ok]
    boxes = np.zeros((len(found), 4), np.float32)
    for k in range(len(found)):
        yy, xx = np.nonzero(out == k + 1)
        boxes[k] = xx.min(), yy.min(), xx.max() + 1, yy.max() + 1
    return Segmentation(
        out,
        taxonomy.ids[column[found]],
        thing[found],
        score[found],
        areas[ok].astype(np.int64),
        boxes,
        outputs["query_embeddings"][0][found].astype(np.float32),
    )


def from_slots(outputs: Mapping[str, NDArray], where: Fit, taxonomy: Taxonomy) -> Segmentation:
    raise DroppedFrame("segment_map models are read from the next change on")
