"""A model file with its post-processing on the host -> the same with it inside the graph, checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import onnx

from vps_ros.learning.in_graph.append import append
from vps_ros.learning.street_frames import street_frames
from vps_ros.segmenters.onnx_segmenter import OnnxSegmenter
from vps_ros.segmenters.segmenter import SegmenterParameters

SHARE = 0.9999
"""Of the pixels that must be the host's."""


def exchange(path: Path, camera: tuple[int, int] | None, name: str) -> float:
    """Changes the file and returns the share of pixels, of a street frame, that are as the host makes them.

    Args:
        camera: (height, width) of the images that segment_map is for; None: the size of the network's input.
        name: of the file, in errors.

    Raises InputError when the file cannot have its post-processing inside; RuntimeError when it then gives something
    else, and leaves the file as it was.
    """
    before = path.with_suffix(".host.onnx")
    shutil.copyfile(path, before)
    model = onnx.load(str(path))
    append(model, camera, name)
    onnx.save(model, str(path))
    parameters = SegmenterParameters()
    host, graph = OnnxSegmenter(before, parameters), OnnxSegmenter(path, parameters)
    height, width = graph.card.camera
    image = cv2.resize(next(street_frames(1, 1)), (width, height), interpolation=cv2.INTER_LINEAR)
    same = float((host(image).map == graph(image).map).mean())
    if same < SHARE:
        before.replace(path)
        raise RuntimeError(
            f"{name}: post-processing in the graph agrees on {100 * same:.3f} % of a frame's pixels only"
        )
    before.unlink()
    return same
