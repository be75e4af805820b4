"""Step 4, update: the memory, whose tracks move with the camera, have appearance models and vote for their class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.detections import Detections
from vps_ros.trackers.memory import ROW, TrackMemory
from vps_ros.trackers.similarity import cosine_log_likelihood_ratio, dots

_VOTE_DECAY = 0.95
"""Factor of older votes for a class at each new detection."""
_MIN_SECONDS = 1e-3
_MAX_ZOOM = 0.1
"""Largest relative change of a track's predicted size from frame to frame."""

_INITIAL_SAME, _INITIAL_DIFFERENT = (0.9, 0.01), (0.6, 0.03)
"""Mean and variance of the cosine before any object was seen."""
_MIN_SAME_VARIANCE, _MIN_DIFFERENT_VARIANCE = 1e-4, 1e-3
_SAME_RATE, _DIFFERENT_RATE = 0.02, 0.05
_MAX_COMPARED = 64
"""Largest number of detections of one frame that are compared with each other."""
_FIRST_OF_TWO = np.triu(np.ones((_MAX_COMPARED, _MAX_COMPARED), bool), 1)


class HierarchicalMemory(TrackMemory):
    """Memory with the box of each track in the current frame, also while the track is lost.

    The box moves by the camera's motion at its place and by the track's own velocity, which is what is left after the
    camera's motion is subtracted. So a lost object stays where it belongs in the scene while the camera turns. Boxes
    and velocities are in image widths, vertically as well.

    The class of a track is the one with most votes of its detections, where older votes count less.

    Attributes:
        appearance_weight: weight of the newest embedding in the moving average.
        own_velocity_weight: least weight of the newest difference between detected and predicted box in own_velocity.
        rows: as TrackMemory has them, with the predicted box for the current frame, the velocity (x, y) per second,
            the frames since the last detection, and the class of the last detection.
        votes: float64 [M, C], of each class id.
        embedding_model, colours: appearance by the segmenter's embeddings, and by colour histograms.
        unit_embeddings, unit_colours: float32 [K, D] of the current detections, of norm 1 or 0; None if there are none.
    """

    dtype = np.dtype(
        [
            *ROW,
            ("predicted_box", np.float64, 4),
            ("own_velocity", np.float64, 2),
            ("gap", np.int64),
            ("latest_class", np.int64),
        ],
        align=True,
    )

    def __init__(self) -> None:
        self.own_velocity_weight = 0.5
        self.embedding_model, self.colours = AppearanceModel(), AppearanceModel()
        super().__init__()

    def configure(self, parameters: Any) -> None:
        self.appearance_weight, self.own_velocity_weight = parameters.appearance_weight, parameters.velocity_weight

    def clear(self) -> None:
        super().clear()
        self.votes = np.empty((0, 0))
        self.embedding_model.clear()
        self.colours.clear()
        self.unit_embeddings: NDArray[np.float32] | None = None
        self.unit_colours: NDArray[np.float32] | None = None
        self._aspect = 1.0

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        super().keep(wanted)
        self.votes = self.votes[wanted]
        self.embedding_model.keep(wanted)
        self.colours.keep(wanted)

    def move(self, camera: NDArray[np.float64] | None, seconds: float, size: tuple[int, int]) -> None:
        """Predicts every box for a new frame of `size` (height, width), `seconds` after the last one.

        Args:
            camera: [3, 2], motion of the background (see camera_motion); None if unknown.
        """
        self._aspect = size[0] / size[1]
        self.rows["gap"] += 1
        if len(self):
            boxes = self.rows["predicted_box"]
            centre, half = _centre(boxes), (boxes[:, 2:] - boxes[:, :2]) / 2
            shift = self.rows["own_velocity"] * seconds
            if camera is not None:
                shift = shift + centre @ camera[:2] + camera[2]
                half = half * np.clip(1 + (camera[0, 0] + camera[1, 1]) / 2, 1 - _MAX_ZOOM, 1 + _MAX_ZOOM)
            centre = centre + shift
            self.rows["predicted_box"] = np.concatenate([centre - half, centre + half], axis=1)

    def observe(self, detections: Detections, colours: NDArray[np.float32]) -> None:
        """Takes the appearance of the detections of the current frame.

        Args:
            colours: float32 [K, D], colour histograms of norm 1 or 0.
        """
        self.unit_colours, self.unit_embeddings = colours, None
        if detections.embeddings is not None:
            scale = np.where(detections.norms > 0, detections.norms, np.float32(1))[:, None]
            self.unit_embeddings = detections.embeddings / scale
        for model, units in self._appearances():
            if units is not None:
                model.set_width(len(self), units.shape[1])
                model.learn_different(units, detections.class_ids)

    def in_widths(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes [K, 4], divided by the image's size, in image widths."""
        return boxes * (1, self._aspect, 1, self._aspect)

    def predict(self, stamp: int, which: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Boxes, float64 [R, 4], of the rows `which` [R] (None: all) in the current frame, divided by its size."""
        rows = self.rows if which is None else self.rows[which]
        return rows["predicted_box"] / (1, self._aspect, 1, self._aspect)

    def update(self, rows, detections: Detections, which, stamp: int, frame: int) -> None:
        boxes = self.in_widths(detections.boxes)[which]
        step = np.maximum(stamp - self.rows["last_seen"][rows], 0) * 1e-9
        newest = (_centre(boxes) - _centre(self.rows["predicted_box"][rows])) / np.maximum(step, _MIN_SECONDS)[:, None]
        # The first difference has weight 1. After a step that is shorter than half the usual one, as before an
        # image that arrives late, the velocity is uncertain: its weight falls with the square of the step, to 0.
        certainty = np.minimum(step / (self.shortest_step() * 1e-9), 1) ** 2
        weight = np.maximum(1 / self.rows["hits"][rows], self.own_velocity_weight) * certainty
        self.rows["own_velocity"][rows] += weight[:, None] * newest
        self.rows["predicted_box"][rows] = boxes
        self.rows["gap"][rows] = 0
        super().update(rows, detections, which, stamp, frame)

    def create(self, detections: Detections, which, ids, slots, stamp: int, frame: int) -> NDArray[np.int64]:
        self.votes = np.concatenate([self.votes, np.zeros((len(which), self.votes.shape[1]))])
        for model, _ in self._appearances():
            model.add(len(which))
        rows = super().create(detections, which, ids, slots, stamp, frame)
        self.rows["predicted_box"][rows] = self.in_widths(detections.boxes)[which]
        return rows

    def class_share(self, rows: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 [P]: share of the class ids `classes` [P] in the votes of the rows [P]."""
        votes = np.zeros((len(self), max(self.votes.shape[1], int(classes.max(initial=0)) + 1)))
        votes[:, : self.votes.shape[1]] = self.votes
        return votes[rows, classes] / np.maximum(votes.sum(axis=1), 1e-9)[rows]

    def _appearances(self):
        return (self.embedding_model, self.unit_embeddings), (self.colours, self.unit_colours)

    def _describe(self, rows, detections: Detections, which) -> None:
        super()._describe(rows, detections, which)
        classes = detections.class_ids[which]
        missing = int(classes.max(initial=-1)) + 1 - self.votes.shape[1]
        if missing > 0:
            self.votes = np.pad(self.votes, ((0, 0), (0, missing)))
        self.votes[rows] *= _VOTE_DECAY
        self.votes[rows, classes] += 1
        self.rows["latest_class"][rows] = classes
        self.rows["class_id"][rows] = self.votes[rows].argmax(axis=1)

    def _update_appearance(self, rows, detections: Detections, which) -> None:
        for model, units in self._appearances():
            if units is not None:
                model.update(rows, units[which], self.appearance_weight)


class AppearanceModel:
    """Mean appearance of each track, and the log-likelihood ratio of a cosine: same object or different objects?

    Both likelihoods are normal distributions. Mean and variance are those of the cosines so far: of detections with the
    mean of their track, and of different detections of one class in one frame. So an embedding that cannot distinguish
    objects has no influence, whatever it was made for, and a good one has the influence that it deserves.

    Attributes:
        vectors: float32 [M, D], of norm 1; zeros where unknown. D is 0 before the first.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.vectors: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._same, self._different = np.array(_INITIAL_SAME), np.array(_INITIAL_DIFFERENT)

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        self.vectors = self.vectors[wanted]

    def add(self, count: int) -> None:
        """Appends `count` tracks of unknown appearance."""
        self.vectors = np.concatenate([self.vectors, np.zeros((count, self.vectors.shape[1]), np.float32)])

    def set_width(self, tracks: int, width: int) -> None:
        """Clears everything, and makes all `tracks` unknown, if vectors have another length than before."""
        if self.vectors.shape[1] != width:
            self.clear()
            self.vectors = np.zeros((tracks, width), np.float32)

    def cosine(
        self, rows: NDArray[np.int64], units: NDArray[np.float32], which: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Cosine [P] of the tracks `rows` [P] and the vectors `which` [P] of `units` [K, D]; 0 where one is unknown."""
        return dots(self.vectors, units, (rows, which))

    def log_likelihood_ratio(self, cosine: NDArray[np.floating]) -> NDArray[np.float64]:
        """log p(cosine | same object) - log p(cosine | different objects), within limits."""
        return cosine_log_likelihood_ratio(cosine, self._same, self._different)

    def update(self, rows: NDArray[np.int64], units: NDArray[np.float32], weight: float) -> None:
        """Updates the tracks `rows` [R] with `units` [R, D], whose weight is `weight`; rows of zeros change nothing."""
        old = self.vectors[rows]
        known = units.any(axis=1)
        both = known & old.any(axis=1)
        if both.any():
            cosine = (old[both] * units[both]).sum(axis=1, dtype=np.float64)
            _learn(self._same, cosine, min(1.0, _SAME_RATE * len(cosine)), _MIN_SAME_VARIANCE)
        share = np.where(both, np.float32(weight), known.astype(np.float32))[:, None]
        mean = old + share * (units - old)
        self.vectors[rows] = mean / np.maximum(np.sqrt((mean * mean).sum(axis=1, keepdims=True)), np.float32(1e-6))

    def learn_different(self, units: NDArray[np.float32], class_ids: NDArray[np.int64]) -> None:
        """Learns how similar the different detections [K, D] of one class in one frame are."""
        some = np.flatnonzero(units.any(axis=1))
        some = some[:: -(-len(some) // _MAX_COMPARED) or 1]
        units, class_ids = units[some], class_ids[some]
        pairs = (class_ids[:, None] == class_ids) & _FIRST_OF_TWO[: len(some), : len(some)]
        cosine = (units @ units.T)[pairs].astype(np.float64)
        if len(cosine):
            _learn(self._different, cosine, _DIFFERENT_RATE, _MIN_DIFFERENT_VARIANCE)


def _learn(statistics: NDArray[np.float64], cosine: NDArray[np.float64], rate: float, min_variance: float) -> None:
    """Moves mean and variance [2], in place, towards those of the cosines."""
    mean, variance = statistics.tolist()
    mean += rate * (float(cosine.sum()) / len(cosine) - mean)
    cosine = cosine - mean
    variance += rate * (float((cosine * cosine).sum()) / len(cosine) - variance)
    statistics[:] = mean, max(variance, min_variance)


def _centre(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
