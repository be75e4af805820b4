"""The memory of the hierarchical tracker: objects that move with the camera, have looks, and vote for a class."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.looks import Looks
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.things import Things

_FADING = 0.95
"""What is left of a vote for a class at the next sighting."""
_SHORTEST = 1e-3
"""Seconds."""
_SHORT_SHARE = 0.5
"""Of the usual time between frames; a speed from a shorter one counts less."""
_INTERVALS = 5
"""Times between frames of which the longest but one is the usual: neither a pause nor what comes in bursts is."""
_ZOOM = 0.1
"""By no more than this a remembered object grows or shrinks from frame to frame."""


class ObjectMemory(Memory):
    """Memory whose objects have a place in the current frame, also while they are not seen.

    The place goes on by the camera's motion there and by the object's own drift, which is what is left of its velocity;
    so an object behind a bus stays where it belongs while the vehicle turns. Places and drifts are in widths of the
    image, down as across.

    An object's class is the one that most of its sightings had, older ones counting less.

    Args:
        appearance_weight: share of the newest appearance in an object's.
        velocity_weight: share of the newest surprise in an object's drift, once it was seen 1 / that often.

    Attributes:
        places: float64 [M, 4], box in the current frame, as far as it is known.
        drift: float64 [M, 2], (x, y) per second.
        gap: int64 [M], frames since the last sighting.
        votes: float64 [M, C] of each class id.
        latest: int64 [M], class of the last sighting.
        embeddings, colours: appearance by the segmenter, and by the image.
        unit_embeddings, unit_colours: float32 [K, D] of the current things, of length 1 or 0; None without.
    """

    def __init__(self, appearance_weight: float, velocity_weight: float) -> None:
        self._drift_weight = velocity_weight
        self.embeddings, self.colours = Looks(appearance_weight), Looks(appearance_weight)
        super().__init__()

    def weigh(self, appearance_weight: float, velocity_weight: float) -> None:
        if appearance_weight != -1:
            self.embeddings.weight = self.colours.weight = np.float32(appearance_weight)
        if velocity_weight != -1:
            self._drift_weight = velocity_weight

    def clear(self) -> None:
        super().clear()
        self.places, self.drift, self.gap = np.empty((0, 4)), np.empty((0, 2)), np.empty(0, np.int64)
        self.votes, self.latest = np.empty((0, 0)), np.empty(0, np.int64)
        self.embeddings.clear()
        self.colours.clear()
        self.unit_embeddings: NDArray[np.float32] | None = None
        self.unit_colours: NDArray[np.float32] | None = None
        self._aspect = 1.0
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        super().keep(wanted)
        self.places, self.drift, self.gap = self.places[wanted], self.drift[wanted], self.gap[wanted]
        self.votes, self.latest = self.votes[wanted], self.latest[wanted]
        self.embeddings.keep(wanted)
        self.colours.keep(wanted)

    def move(
        self, camera: NDArray[np.float64] | None, seconds: float, things: Things, colours: NDArray[np.float32]
    ) -> None:
        """Moves every object into a new frame, `seconds` after the last, and meets its `things`.

        Args:
            camera: [3, 2], motion of the background (trackers/camera.py); None where unknown.
            colours: float32 [K, D], appearance of the things by the image.
        """
        self._aspect = things.size[0] / things.size[1]
        if seconds >= _SHORTEST:
            self._intervals.append(seconds)
        self.gap += 1
        if len(self):
            centre, half = _centre(self.places), _half(self.places)
            shift = self.drift * seconds
            if camera is not None:
                shift = shift + centre @ camera[:2] + camera[2]
                half = half * np.clip(1 + (camera[0, 0] + camera[1, 1]) / 2, 1 - _ZOOM, 1 + _ZOOM)
            centre = centre + shift
            self.places = np.concatenate([centre - half, centre + half], axis=1)
        self.unit_colours, self.unit_embeddings = colours, None
        self.colours.make_room(len(self), colours.shape[1])
        self.colours.differ(colours, things.class_ids)
        if things.embeddings is not None:
            units = things.embeddings / np.where(things.lengths > 0, things.lengths, np.float32(1))[:, None]
            self.unit_embeddings = units
            self.embeddings.make_room(len(self), units.shape[1])
            self.embeddings.differ(units, things.class_ids)

    def boxes(self, things: Things) -> NDArray[np.float64]:
        """Boxes of things, float64 [K, 4], as `places` are."""
        return things.boxes * (1, self._aspect, 1, self._aspect)

    def predict(self, stamp: int, which: NDArray[np.int64]) -> NDArray[np.float64]:
        """Boxes of the rows `which` [R] in the current frame, float64 [R, 4], divided by the image's size."""
        return self.places[which] / (1, self._aspect, 1, self._aspect)

    def see(self, rows, things: Things, which, stamp: int, frame: int) -> None:
        boxes = self.boxes(things)[which]
        step = np.maximum(stamp - self.rows["last_seen"][rows], 0) * 1e-9
        surprise = (_centre(boxes) - _centre(self.places[rows])) / np.maximum(step, _SHORTEST)[:, None]
        # The first surprise is all that is known of an object's motion. Over a step much shorter than usual, as after
        # an image that came late, the stamps say little of a speed, less by the square, and over none nothing.
        usual = sorted(self._intervals)[-2:][0] if self._intervals else 0.0
        trust = np.minimum(step / max(_SHORT_SHARE * usual, _SHORTEST), 1) ** 2
        weight = np.maximum(1 / self.rows["hits"][rows], self._drift_weight) * trust
        self.drift[rows] += weight[:, None] * surprise
        self.places[rows] = boxes
        self.gap[rows] = 0
        super().see(rows, things, which, stamp, frame)

    def add(self, things: Things, which, ids, slots, stamp: int, frame: int) -> NDArray[np.int64]:
        count = len(which)
        self.places = np.concatenate([self.places, self.boxes(things)[which]])
        self.drift = np.concatenate([self.drift, np.zeros((count, 2))])
        self.gap = np.concatenate([self.gap, np.zeros(count, np.int64)])
        self.votes = np.concatenate([self.votes, np.zeros((count, self.votes.shape[1]))])
        self.latest = np.concatenate([self.latest, np.zeros(count, np.int64)])
        for looks, _ in self._both():
            looks.add(count)
        return super().add(things, which, ids, slots, stamp, frame)

    def share(self, rows: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 [P]: share of the class ids `classes` [P] in the votes of the rows [P]."""
        votes = np.zeros((len(self), max(self.votes.shape[1], int(classes.max(initial=0)) + 1)))
        votes[:, : self.votes.shape[1]] = self.votes
        return votes[rows, classes] / np.maximum(votes.sum(axis=1), 1e-9)[rows]

    def _both(self):
        return (self.embeddings, self.unit_embeddings), (self.colours, self.unit_colours)

    def _describe(self, rows, things: Things, which) -> None:
        super()._describe(rows, things, which)
        classes = things.class_ids[which]
        missing = int(classes.max(initial=-1)) + 1 - self.votes.shape[1]
        if missing > 0:
            self.votes = np.pad(self.votes, ((0, 0), (0, missing)))
        self.votes[rows] *= _FADING
        self.votes[rows, classes] += 1
        self.latest[rows] = classes
        self.rows["class_id"][rows] = self.votes[rows].argmax(axis=1)

    def _average(self, rows, things: Things, which) -> None:
        for looks, units in self._both():
            if units is not None:
                looks.see(rows, units[which])


def _centre(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _half(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, 2:] - boxes[:, :2]) / 2
