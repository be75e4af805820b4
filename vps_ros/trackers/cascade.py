"""A tracker made of stages: each frame's things meet the memory through one evidence after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.frame import AssociatedBy, Frame, Segmentation, Track, TrackState
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.lifecycle import Numbers
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.stages import Stage
from vps_ros.trackers.things import Things

_STATES, _EVIDENCE = tuple(TrackState), tuple(AssociatedBy)
_TENTATIVE, _CONFIRMED, _LOST = map(int, TrackState)
_TRACK = partial(tuple.__new__, Track)
"""Track._make without its check of the length, which zip makes already."""


class History(Protocol):
    """Masks of frames that have been."""

    @property
    def milliseconds(self) -> float:
        """Time of the optical flow since `push`."""

    def reset(self) -> None: ...

    def push(self, frame: Frame, segmentation: Segmentation, things: Things) -> None:
        """Takes the current frame."""

    def remember(self, ids: NDArray[np.int64]) -> None:
        """The things of the current frame are the tracks `ids` [K]."""


class Rules(Protocol):
    """Lifecycle, or what stands in for it."""

    @property
    def confirm_hits(self) -> int: ...

    def remembered(self, rows: NDArray, stamp: int, frame: int) -> NDArray[np.bool_]: ...


Ways = Callable[[Config], tuple[Sequence[Stage], Rules]]
"""From a settled Config to the stages, strongest evidence first, and when objects are confirmed and forgotten."""


class CascadeTracker(Tracker):
    """Tracks things with stages in order; what no stage pairs is a new object, in whatever frame it appears.

    Args:
        ways: what depends on the live parameters, and keeps nothing from frame to frame.
        config: settled.
        memory: empty.
        pixels: masks of the last frames, for the stages that look at them.
        uses_embeddings: False: appearance is not looked at, nor kept.
        needs_embeddings: whether things without embeddings are an InputError.
    """

    def __init__(
        self,
        ways: Ways,
        config: Config,
        memory: Memory,
        pixels: History | None = None,
        uses_embeddings: bool = True,
        needs_embeddings: bool = False,
    ) -> None:
        self._ways = ways
        self._memory = memory
        self._pixels = pixels
        self._uses_embeddings = uses_embeddings
        self._needs_embeddings = needs_embeddings
        self._numbers = Numbers()
        self._frame = 0
        self.flow_milliseconds = 0.0
        self.configure(config)

    def configure(self, config: Config) -> None:
        self._stages, self._lifecycle = self._ways(config)
        self._memory.weigh(config.appearance_weight, config.velocity_weight)

    def reset(self) -> None:
        self._memory.clear()
        self._frame = 0
        if self._pixels is not None:
            self._pixels.reset()

    def step(self, frame: Frame, segmentation: Segmentation) -> tuple[Track, ...]:
        memory, stamp = self._memory, int(frame.stamp)
        things = Things.of(segmentation, self._uses_embeddings)
        if self._needs_embeddings and len(things) and things.embeddings is None:
            raise InputError(
                f"frame at {stamp} ns: this tracker compares appearances and the things have none; take a model with "
                "query embeddings, give `vps-ros track` --embeddings or let it make colour histograms, or take a "
                "tracker that needs no appearance, such as location or hierarchical"
            )
        if self._pixels is not None:
            self._pixels.push(frame, segmentation, things)
        self._frame += 1
        remembered = self._lifecycle.remembered(memory.rows, stamp, self._frame)
        if not remembered.all():
            memory.keep(remembered)
        owner = self._associate(things, stamp)
        if self._pixels is not None:
            self._pixels.remember(memory.rows["id"][owner])
            self.flow_milliseconds = self._pixels.milliseconds
        return self._tracks(segmentation, stamp)

    def _associate(self, things: Things, stamp: int) -> NDArray[np.int64]:
        """int64 [K]: the row of the memory that each thing is, new ones included."""
        memory = self._memory
        owner = np.full(len(things), -1)
        evidence = np.full(len(things), int(AssociatedBy.NEW))
        score = np.zeros(len(things))
        taken = np.zeros(len(memory), bool)
        self.candidates = 0
        for stage in self._stages:
            which, rows = (owner < 0).nonzero()[0], (~taken).nonzero()[0]
            if not len(which) or not len(rows):
                break
            self.candidates += len(which) * len(rows)
            r, k, similarity = stage.pair(memory, rows, things, which, stamp)
            owner[k], evidence[k], score[k] = r, stage.evidence, similarity
            taken[r] = True
        known, new = (owner >= 0).nonzero()[0], (owner < 0).nonzero()[0]
        slots = self._numbers.slots(memory.rows["slot"], len(new))
        memory.rows["index"] = -1
        if len(known):
            memory.see(owner[known], things, known, stamp, self._frame)
        if len(new):
            owner[new] = memory.add(things, new, self._numbers.ids(len(new)), slots, stamp, self._frame)
        memory.rows["associated_by"][owner] = evidence
        memory.rows["association"][owner] = score
        return owner

    def _tracks(self, segmentation: Segmentation, stamp: int) -> tuple[Track, ...]:
        rows = self._memory.rows
        height, width = segmentation.map.shape
        index, hits = rows["index"], rows["hits"]
        boxes = np.empty((len(rows), 4))
        unseen = index < 0
        lost = unseen.nonzero()[0]
        if len(lost):
            seen = (~unseen).nonzero()[0]
            boxes[seen] = segmentation.boxes.take(index[seen], axis=0)
            boxes[lost] = self._memory.predict(stamp, lost) * (width, height, width, height)
        else:
            boxes[:] = segmentation.boxes.take(index, axis=0)
        velocity = self._memory.centre_velocity(slice(None)) * (width, height)
        state = np.where(unseen, _LOST, np.where(hits >= self._lifecycle.confirm_hits, _CONFIRMED, _TENTATIVE))
        columns = (
            rows["id"].tolist(),
            rows["slot"].tolist(),
            index.tolist(),
            rows["class_id"].tolist(),
            rows["score"].tolist(),
            [_STATES[s] for s in state.tolist()],
            [_EVIDENCE[e] for e in rows["associated_by"].tolist()],
            rows["association"].tolist(),
            zip(*boxes.T.tolist(), strict=True),
            zip(*velocity.T.tolist(), strict=True),
            rows["area"].tolist(),
            rows["first_seen"].tolist(),
            rows["last_seen"].tolist(),
            hits.tolist(),
        )
        return tuple(map(_TRACK, zip(*columns, strict=True)))
