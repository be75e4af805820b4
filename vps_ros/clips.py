"""Clips: consecutive frames that a network segments together, so that one query is one object in all of them (a tube).

Source: Shin et al., Video-kMaX, section 3.1 (near-online; a clip of one frame is online, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from vps_ros.errors import InputError

MAX_LENGTH = 64
Item = TypeVar("Item")


@dataclass(frozen=True)
class ClipSpec:
    """Length and overlap of clips, in frames; raises InputError when they are not possible.

    Attributes:
        length: frames of a clip, T; 1: an image.
        overlap: frames that two consecutive clips share, O.
    """

    length: int = field(default=1, metadata={"low": 1, "high": MAX_LENGTH})
    overlap: int = field(default=0, metadata={"low": 0})

    def __post_init__(self) -> None:
        if self.overlap >= self.length:
            raise InputError(
                f"clip: {self.overlap} overlapping frames in clips of {self.length}; the overlap must be smaller than "
                "the length, since each clip needs a frame that the one before does not have"
            )

    @property
    def step(self) -> int:
        """New frames of each clip, T - O."""
        return self.length - self.overlap

    @property
    def late(self) -> int:
        """Frames that arrive before the result of a frame is known, at most: T - 1 - O."""
        return self.step - 1

    def __str__(self) -> str:
        late = f"{self.late} frame{'s' * (self.late != 1)}"
        return f"{self.length} frames, {self.overlap} of them overlapping; results at most {late} late"

    def to_json(self) -> dict[str, float]:
        """Entry `clip` of figures; `network_frames`: frames that the network computes for each frame of a recording."""
        return {
            "length": self.length,
            "overlap": self.overlap,
            "late_frames": self.late,
            "network_frames": self.length / self.step,
        }


@dataclass(frozen=True)
class Group(Generic[Item]):
    """The frames of one clip.

    Attributes:
        items: T frames.
        new: which of them were in no clip before; the frames after `new` are padding.
    """

    items: tuple[Item, ...]
    new: slice


class FrameGroups(Generic[Item]):
    """Groups the frames of a sequence into clips; holds fewer than T frames.

    The first clip of a sequence has O copies of its first frame in front, so that no frame waits longer than others.
    The last one is filled with copies of its last frame.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self._spec = spec
        self.reset()

    def reset(self) -> None:
        """Forgets all frames: the next one is the first of a sequence."""
        self._before: list[Item] = []
        self._new: list[Item] = []

    @property
    def waiting(self) -> tuple[Item, ...]:
        """The frames whose clip is not complete; fewer than T - O."""
        return tuple(self._new)

    def push(self, item: Item) -> Group[Item] | None:
        """Adds a frame; the clip that it completes, or None."""
        self._new.append(item)
        return self._take() if len(self._new) == self._spec.step else None

    def flush(self) -> Group[Item] | None:
        """The clip of the frames that still wait; None without any."""
        return self._take() if self._new else None

    def _take(self) -> Group[Item]:
        length, overlap = self._spec.length, self._spec.overlap
        before = self._before or [self._new[0]] * overlap
        items = [*before, *self._new]
        new = slice(overlap, len(items))
        self._before, self._new = items[len(items) - overlap :], []
        return Group((*items, *[items[-1]] * (length - len(items))), new)
