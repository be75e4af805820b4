"""A segmenter that calls a function of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.segmenters.segmentation import check_classes, segmentation_from_masks
from vps_ros.segmenters.segmenter import Segmenter, SegmenterParameters
from vps_ros.taxonomies import ALL
from vps_ros.taxonomy import Taxonomy

MaskTuple = tuple[Any, Any, Any] | tuple[Any, Any, Any, Any]


@runtime_checkable
class MaskDetections(Protocol):
    """supervision.Detections, or an object with the same attributes; the package is not needed.

    Attributes:
        xyxy: [N, 4]; only N is used, because the boxes are those of the masks.
        mask: bool [N, H, W]; None if there is none.
        class_id: [N]; None if there is none.
        confidence: [N] in 0..1; None if there is none.
    """

    xyxy: Any
    mask: Any
    class_id: Any
    confidence: Any


SegmentFunction = Callable[[NDArray[np.uint8]], Segmentation | MaskTuple | MaskDetections]
"""uint8 [H, W, 3] RGB -> Segmentation, supervision.Detections, or the arguments of segmentation_from_masks besides the
taxonomy."""
ClassNames = Taxonomy | str | Sequence[str] | Mapping[int, str]
"""A taxonomy, the name of a data set's, or class names by id, all of which are things."""


def as_segmenter(segmenter: Segmenter | SegmentFunction, classes: ClassNames | None) -> Segmenter:
    """A Segmenter as it is, anything else that can be called as a FunctionSegmenter.

    The classes are `classes`, or else the attribute `taxonomy` of the callable. Raises InputError when there are none.
    """
    if classes is None:
        if isinstance(segmenter, Segmenter):
            return segmenter
        classes = getattr(segmenter, "taxonomy", None)
    if not callable(segmenter):
        raise InputError(f"segmenter: {segmenter!r} cannot be called; give a function of an image")
    if classes is None:
        raise InputError(
            "segmenter: the class ids of a function need names; give taxonomy=, a Taxonomy or a list of names"
        )
    return FunctionSegmenter(segmenter, _as_taxonomy(classes))


class FunctionSegmenter:
    """Segmenter that calls a function. Parameters of Config have no effect on it.

    Args:
        function: SegmentFunction. If it has a method `reset`, that is called when a sequence starts.
        taxonomy: the classes of its class ids.

    A call raises InputError when what the function returned cannot be used.
    """

    def __init__(self, function: SegmentFunction, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.providers: tuple[str, ...] = ()
        self.milliseconds: dict[str, float] = {}
        self._function = function
        self._reset: Callable[[], Any] | None = getattr(function, "reset", None)
        self.recurrent = self._reset is not None

    def __call__(self, image: NDArray[np.uint8]) -> Segmentation:
        found = self._function(image)
        try:
            if isinstance(found, MaskDetections):
                found = _mask_tuple(found, image.shape[:2])
            if isinstance(found, tuple) and len(found) in (3, 4):
                masks, class_ids, scores, *embeddings = found
                found = segmentation_from_masks(masks, class_ids, scores, self.taxonomy, *embeddings)
            if not isinstance(found, Segmentation):
                raise InputError(
                    f"returned {type(found).__name__}; return a Segmentation, supervision.Detections, or "
                    "(masks, class ids, scores)"
                )
            _check(found, self.taxonomy)
            if found.map.shape != image.shape[:2]:
                raise InputError(f"masks are {_size(found.map.shape)}, the image is {_size(image.shape)}; resize them")
        except InputError as error:
            raise InputError(f"segmenter {self.name}: {error}") from None
        return found

    def reset(self) -> None:
        if self._reset is not None:
            self._reset()

    def configure(self, parameters: SegmenterParameters) -> None:
        pass

    def interrupt(self) -> None:
        pass


def _mask_tuple(found: MaskDetections, size: tuple[int, ...]) -> MaskTuple:
    """Masks, class ids and scores of detections on an image of this height and width.

    Raises InputError when something is missing.
    """
    if len(found.xyxy) == 0:
        # Without objects, supervision has no masks either.
        return np.zeros((0, *size), np.bool_), [], []
    for name in ("mask", "class_id", "confidence"):
        if getattr(found, name) is None:
            raise InputError(f"returned {type(found).__name__} whose {name} is None; give one for each object")
    return np.asarray(found.mask), found.class_id, found.confidence


def _check(segmentation: Segmentation, taxonomy: Taxonomy) -> None:
    """Raises InputError when the arrays of a Segmentation do not fit each other or the taxonomy."""
    s, count = segmentation, len(segmentation.class_ids)
    for name in ("is_thing", "scores", "areas", "boxes"):
        if len(getattr(s, name)) != count:
            raise InputError(f"Segmentation has {count} class_ids, but {len(getattr(s, name))} {name}")
    if s.embeddings is not None and len(s.embeddings) != count:
        raise InputError(f"Segmentation has {count} class_ids, but {len(s.embeddings)} embeddings")
    if s.tubes is not None and len(s.tubes) != count:
        raise InputError(f"Segmentation has {count} class_ids, but {len(s.tubes)} tubes")
    if s.map.ndim != 2 or not np.issubdtype(s.map.dtype, np.unsignedinteger) or s.map.max(initial=0) > count:
        raise InputError(f"Segmentation.map must be unsigned integers [height, width] in 0..{count}")
    check_classes(s.class_ids, taxonomy)


def _as_taxonomy(classes: ClassNames) -> Taxonomy:
    if isinstance(classes, Taxonomy):
        return classes
    if not isinstance(classes, str):
        return Taxonomy.from_names(classes)
    if classes not in ALL:
        raise InputError(f"taxonomy {classes!r}: no such data set; there are {', '.join(ALL)}, or give a list of names")
    return ALL[classes]


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
