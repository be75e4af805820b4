"""Step 4, update: the memory, whose tracks move with the camera, have appearance models and vote for their class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.detections import Detections
from vps_ros.trackers.memory import ROW, TrackMemory
from vps_ros.trackers.similarity import cosine_log_likelihood_ratio, dots

Statistics = tuple[float, float]
"""Mean and variance of cosines."""

_VOTE_DECAY = 0.95
"""Factor of older votes for a class at each new detection."""
_MIN_SECONDS = 1e-3
_MIN_NORM = np.float32(1e-12)
_MAX_ZOOM = 0.1
"""Largest relative change of a track's predicted size from frame to frame."""

_INITIAL_SAME, _INITIAL_DIFFERENT = (0.9, 0.01), (0.6, 0.03)
"""Mean and variance of the cosine before any object was seen."""
_MIN_SAME_VARIANCE, _MIN_DIFFERENT_VARIANCE = 1e-4, 1e-3
_SAME_RATE, _DIFFERENT_RATE = 0.02, 0.05
_MAX_COMPARED = 32
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
        boxes: float64 [K, 4] of the current detections, in image widths.
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
        self.boxes = np.empty((0, 4))
        self._widths = np.ones(4)

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
        self._widths[1::2] = size[0] / size[1]
        self.rows["gap"] += 1
        if len(self):
            boxes = self.rows["predicted_box"]
            centre, half = _centre(boxes), (boxes[:, 2:] - boxes[:, :2]) / 2
            shift = self.rows["own_velocity"] * seconds
            if camera is not None:
                shift = shift + centre @ camera[:2] + camera[2]
                half *= min(max(1 + float(camera[0, 0] + camera[1, 1]) / 2, 1 - _MAX_ZOOM), 1 + _MAX_ZOOM)
            centre += shift
            np.subtract(centre, half, out=boxes[:, :2])
            np.add(centre, half, out=boxes[:, 2:])

    def observe(self, detections: Detections, colours: NDArray[np.float32]) -> None:
        """Takes the appearance of the detections of the current frame.

        Args:
            colours: float32 [K, D], colour histograms of norm 1 or 0.
        """
        self.boxes = detections.boxes * self._widths
        classes = detections.class_ids
        missing = int(classes.max(initial=-1)) + 1 - self.votes.shape[1]
        if missing > 0:
            self.votes = np.pad(self.votes, ((0, 0), (0, missing)))
        self.colours.observe(colours, classes)
        embeddings = detections.embeddings
        if embeddings is not None:
            embeddings = embeddings / np.maximum(detections.norms, _MIN_NORM)[:, None]
        self.embedding_model.observe(embeddings, classes)

    def predict(self, stamp: int, which: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Boxes, float64 [R, 4], of the rows `which` [R] (None: all) in the current frame, divided by its size."""
        boxes = self.rows["predicted_box"]
        return (boxes if which is None else boxes[which]) / self._widths

    def predicted_centres(self) -> NDArray[np.float64]:
        """Centres (x, y) of the boxes of all rows in the current frame, float64 [M, 2], divided by its size."""
        return _centre(self.rows["predicted_box"] / self._widths)

    def update(self, rows, detections: Detections, which, stamp: int, frame: int) -> None:
        boxes = self.boxes[which]
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
        self.embedding_model.add(len(which))
        self.colours.add(len(which))
        rows = super().create(detections, which, ids, slots, stamp, frame)
        self.rows["predicted_box"][rows] = self.boxes[which]
        return rows

    def class_share(self, rows: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 [P]: share of the class ids `classes` [P] in the votes of the rows [P]."""
        return self.votes[rows, classes] / self.votes.sum(axis=1)[rows]

    def _describe(self, rows, detections: Detections, which) -> None:
        super()._describe(rows, detections, which)
        classes = detections.class_ids[which]
        votes = self.votes[rows] * _VOTE_DECAY
        votes[np.arange(len(rows)), classes] += 1
        self.votes[rows] = votes
        self.rows["latest_class"][rows] = classes
        self.rows["class_id"][rows] = votes.argmax(axis=1)

    def _update_appearance(self, rows, detections: Detections, which) -> None:
        self.embedding_model.update(rows, which, self.appearance_weight)
        self.colours.update(rows, which, self.appearance_weight)


class AppearanceModel:
    """Mean appearance of each track, and the log-likelihood ratio of a cosine: same object or different objects?

    Both likelihoods are normal distributions. Mean and variance are those of the cosines so far: of detections with the
    mean of their track, and of different detections of one class in one frame. So an embedding that cannot distinguish
    objects has no influence, whatever it was made for, and a good one has the influence that it deserves.

    Attributes:
        vectors: float32 [M, D], of norm 1; zeros where unknown. D is 0 before the first.
        known: bool [M], where `vectors` is known.
        units: float32 [K, D] of the current detections, of norm 1 or 0; None without any.
        seen: bool [K], where `units` is not 0.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self, tracks: int = 0, width: int = 0) -> None:
        """Forgets everything; so many tracks are then unknown."""
        self.vectors, self.known = np.zeros((tracks, width), np.float32), np.zeros(tracks, bool)
        self.units: NDArray[np.float32] | None = None
        self._same, self._different = _INITIAL_SAME, _INITIAL_DIFFERENT

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        self.vectors, self.known = self.vectors[wanted], self.known[wanted]

    def add(self, count: int) -> None:
        """Appends `count` tracks of unknown appearance."""
        self.vectors = np.concatenate([self.vectors, np.zeros((count, self.vectors.shape[1]), np.float32)])
        self.known = np.concatenate([self.known, np.zeros(count, bool)])

    def observe(self, units: NDArray[np.float32] | None, class_ids: NDArray[np.int64]) -> None:
        """Takes the detections [K, D] of a frame, and learns how similar different ones of one class are.

        Everything before is forgotten if D has changed.
        """
        if units is not None:
            if self.vectors.shape[1] != units.shape[1]:
                self.clear(len(self.vectors), units.shape[1])
            self.seen = units.any(axis=1)
            some = self.seen.nonzero()[0]
            some = some[:: -(-len(some) // _MAX_COMPARED) or 1]
            compared, class_ids = units.take(some, axis=0), class_ids.take(some)
            pairs = (class_ids[:, None] == class_ids) & _FIRST_OF_TWO[: len(some), : len(some)]
            cosine = (compared @ compared.T)[pairs]
            if len(cosine):
                self._different = _learned(self._different, cosine, _DIFFERENT_RATE, _MIN_DIFFERENT_VARIANCE)
        self.units = units

    def cosine(self, rows: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine [P] of the tracks `rows` [P] and the detections `which` [P]; 0 where one is unknown."""
        assert self.units is not None
        return dots(self.vectors, self.units, (rows, which))

    def log_likelihood_ratio(self, cosine: NDArray[np.floating]) -> NDArray[np.floating]:
        """log p(cosine | same object) - log p(cosine | different objects), within limits."""
        return cosine_log_likelihood_ratio(cosine, self._same, self._different)

    def ratio(self, rows: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.floating]:
        """Log-likelihood ratio [P] of the tracks `rows` [P] and the detections `which` [P]; 0 where one is unknown."""
        if self.units is None:
            return np.zeros(len(rows))
        return self.log_likelihood_ratio(self.cosine(rows, which)) * (self.known[rows] & self.seen[which])

    def update(self, rows: NDArray[np.int64], which: NDArray[np.int64], weight: float) -> None:
        """Updates the tracks `rows` [R] with the detections `which` [R]; unknown detections change nothing."""
        if self.units is None:
            return
        old, new = self.vectors.take(rows, axis=0), self.units.take(which, axis=0)
        known, seen = self.known[rows], self.seen[which]
        both = known & seen
        cosine = np.einsum("rd,rd->r", old, new)
        if count := np.count_nonzero(both):
            self._same = _learned(self._same, cosine[both], min(1.0, _SAME_RATE * count), _MIN_SAME_VARIANCE)
        share = seen - both * np.float32(1 - weight)
        rest = 1 - share
        # The norm of the mean of two vectors of norm 1 follows from their cosine.
        scale = 1 / np.sqrt(np.maximum(1 - 2 * share * rest * (1 - cosine), np.float32(1e-6)))
        new *= (share * scale)[:, None]
        old *= (rest * scale)[:, None]
        new += old
        self.vectors[rows] = new
        self.known[rows] = known | seen


def _learned(before: Statistics, cosine: NDArray[np.float32], rate: float, min_variance: float) -> Statistics:
    """Mean and variance, moved towards those of the cosines."""
    mean, variance = before
    cosine = cosine.astype(np.float64)
    mean += rate * (float(cosine.sum()) / len(cosine) - mean)
    cosine -= mean
    variance += rate * (float(cosine.dot(cosine)) / len(cosine) - variance)
    return mean, max(variance, min_variance)


def _centre(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
