"""Any function from an image to masks as a segmenter of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.runs import areas, boxes, runs
from vps_ros.segmenters.base import Segmenter
from vps_ros.segmenters.parameters import SegmenterParameters
from vps_ros.taxonomies import ALL
from vps_ros.taxonomy import Taxonomy

MaskTuple = tuple[Any, Any, Any] | tuple[Any, Any, Any, Any]
SegmentFunction = Callable[[NDArray[np.uint8]], Segmentation | MaskTuple]
"""uint8 [H, W, 3] RGB -> Segmentation, or the arguments of segmentation_from_masks besides the taxonomy."""
ClassNames = Taxonomy | str | Sequence[str] | Mapping[int, str]
"""A taxonomy, the name of a data set's, or class names by id, all of which are things."""
_MAX_SEGMENTS = np.iinfo(np.uint16).max


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
            "segmenter: a function does not say what its class ids mean; give taxonomy=, a Taxonomy or a list of names"
        )
    return FunctionSegmenter(segmenter, _as_taxonomy(classes))


class FunctionSegmenter:
    """Segmenter (base.py) that calls a function. Config has no influence on it.

    Args:
        function: SegmentFunction. Where it has a method `reset`, that is called when a sequence starts.
        taxonomy: the classes of its class ids.

    A call raises InputError when what the function returned cannot be used.
    """

    def __init__(self, function: SegmentFunction, taxonomy: Taxonomy) -> None:
        self._function, self._taxonomy = function, taxonomy
        self._reset: Callable[[], Any] | None = getattr(function, "reset", None)
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.providers: tuple[str, ...] = ()
        self.milliseconds: dict[str, float] = {}

    @property
    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    @property
    def recurrent(self) -> bool:
        return self._reset is not None

    def __call__(self, image: NDArray[np.uint8]) -> Segmentation:
        found = self._function(image)
        try:
            if isinstance(found, tuple) and len(found) in (3, 4):
                masks, class_ids, scores, *embeddings = found
                found = segmentation_from_masks(masks, class_ids, scores, self._taxonomy, *embeddings)
            if not isinstance(found, Segmentation):
                raise InputError(
                    f"returned {type(found).__name__}; return a Segmentation, or (masks, class ids, scores)"
                )
            _check(found, self._taxonomy)
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


def segmentation_from_masks(
    masks: ArrayLike,
    class_ids: ArrayLike,
    scores: ArrayLike,
    taxonomy: Taxonomy,
    embeddings: ArrayLike | None = None,
) -> Segmentation:
    """Segments of one frame from masks that may overlap.

    Where masks overlap, things cover stuff and the higher score covers the lower one (Kirillov et al., Panoptic
    Segmentation, CVPR 2019, section 7). Masks of one class of stuff become one segment. A mask of which no pixel is
    left is dropped.

    Args:
        masks: bool [N, H, W].
        class_ids: [N], integers of the taxonomy.
        scores: [N] in 0..1.
        taxonomy: decides which classes are things.
        embeddings: float [N, D], appearance; None: the trackers use colours of the image.

    Raises InputError when shapes, types or values do not fit.
    """
    masks = np.asarray(masks)
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise InputError(
            f"masks are {masks.dtype} {list(masks.shape)}; give bool [N, height, width], such as probabilities > 0.5"
        )
    rows = _Rows(class_ids, scores, taxonomy, embeddings)
    if len(masks) != len(rows.class_ids):
        raise InputError(f"{len(masks)} masks, but {len(rows.class_ids)} class ids; give one for each mask")
    labels = np.zeros(masks.shape[1:], np.uint16)
    # The last one painted is on top: stuff before things, low scores before high ones.
    for row in np.lexsort((rows.scores, rows.is_thing)):
        labels[masks[row]] = row + 1
    return _from_rows(labels, rows)


def segmentation_from_map(
    labels: ArrayLike,
    class_ids: ArrayLike,
    scores: ArrayLike,
    taxonomy: Taxonomy,
    embeddings: ArrayLike | None = None,
) -> Segmentation:
    """Segments of one frame from a label map: integers [H, W], 0 void, k the segment of row k - 1.

    Segments of one class of stuff become one; a row without a pixel is dropped. The other arguments and errors are
    those of segmentation_from_masks.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 2:
        raise InputError(f"the map is {labels.dtype} {list(labels.shape)}; give integers [height, width]")
    rows = _Rows(class_ids, scores, taxonomy, embeddings)
    if labels.size and not 0 <= labels.min() <= labels.max() <= len(rows.class_ids):
        raise InputError(
            f"the map has values {labels.min()} to {labels.max()} for {len(rows.class_ids)} segments; "
            "use 0 for void and 1 to N for the segments"
        )
    return _from_rows(labels, rows)


class _Rows:
    """Class, score and embedding of N segments, checked."""

    def __init__(
        self, class_ids: ArrayLike, scores: ArrayLike, taxonomy: Taxonomy, embeddings: ArrayLike | None
    ) -> None:
        given = np.asarray(class_ids)
        if given.ndim != 1 or not np.issubdtype(given.dtype, np.number) or (given != np.trunc(given)).any():
            raise InputError(f"class ids are {given.dtype} {list(given.shape)}; give integers [N]")
        self.class_ids = given.astype(np.int32)
        count = len(self.class_ids)
        if count > _MAX_SEGMENTS:
            raise InputError(f"{count} segments; at most {_MAX_SEGMENTS} can be tracked in a frame")
        _check_classes(self.class_ids, taxonomy)
        self.scores = np.asarray(scores, np.float32)
        if self.scores.shape != (count,) or not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise InputError(f"scores are {list(self.scores.shape)} for {count} class ids; give [N] in 0..1")
        self.embeddings = None if embeddings is None else np.asarray(embeddings, np.float32)
        if self.embeddings is not None and (
            self.embeddings.ndim != 2 or len(self.embeddings) != count or not np.isfinite(self.embeddings).all()
        ):
            raise InputError(
                f"embeddings are {list(self.embeddings.shape)} for {count} class ids; give finite numbers [N, D]"
            )
        self.is_thing = np.isin(self.class_ids, taxonomy.thing_ids)


def _from_rows(labels: NDArray[Any], rows: _Rows) -> Segmentation:
    """The segmentation of a map whose value k is row k - 1; segments in the order of descending score."""
    count = len(rows.class_ids)
    start, length = runs(labels)
    value = labels.ravel()[start].astype(np.int64)
    used = np.flatnonzero(np.bincount(value, minlength=count + 1)[1:])
    number = np.zeros(count + 1, np.int64)
    kept: list[int] = []
    number_of_stuff: dict[int, int] = {}
    for row in used[np.argsort(-rows.scores[used], kind="stable")].tolist():
        class_id = int(rows.class_ids[row])
        if rows.is_thing[row] or class_id not in number_of_stuff:
            kept.append(row)
            number[row + 1] = len(kept)
            if not rows.is_thing[row]:
                number_of_stuff[class_id] = len(kept)
        else:
            number[row + 1] = number_of_stuff[class_id]
    label = number[value]
    chosen = np.array(kept, np.int64)
    dtype = np.uint8 if len(kept) <= np.iinfo(np.uint8).max else np.uint16
    return Segmentation(
        np.repeat(label.astype(dtype), length).reshape(labels.shape),
        rows.class_ids[chosen],
        rows.is_thing[chosen],
        rows.scores[chosen],
        areas(label, length, len(kept)),
        boxes(label, start, length, labels.shape[1], len(kept)),
        None if rows.embeddings is None else rows.embeddings[chosen],
    )


def _check(segmentation: Segmentation, taxonomy: Taxonomy) -> None:
    """Raises InputError when the arrays of a Segmentation do not fit each other or the taxonomy."""
    s, count = segmentation, len(segmentation.class_ids)
    for name in ("is_thing", "scores", "areas", "boxes"):
        if len(getattr(s, name)) != count:
            raise InputError(f"Segmentation has {count} class_ids, but {len(getattr(s, name))} {name}")
    if s.embeddings is not None and len(s.embeddings) != count:
        raise InputError(f"Segmentation has {count} class_ids, but {len(s.embeddings)} embeddings")
    if s.map.ndim != 2 or not np.issubdtype(s.map.dtype, np.unsignedinteger) or s.map.max(initial=0) > count:
        raise InputError(f"Segmentation.map must be unsigned integers [height, width] in 0..{count}")
    _check_classes(s.class_ids, taxonomy)


def _check_classes(class_ids: NDArray[np.int32], taxonomy: Taxonomy) -> None:
    unknown = class_ids[~np.isin(class_ids, taxonomy.ids)]
    if len(unknown):
        listed = ", ".join(f"{c.id} {c.name}" for c in taxonomy.classes[:5])
        more = ", ..." if len(taxonomy) > 5 else ""
        raise InputError(f"class {unknown[0]} is not in taxonomy {taxonomy.name!r} ({listed}{more})")


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
