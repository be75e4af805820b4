"""Transforms between the coordinate frames of a bag, from its messages of TF (tf2_msgs/TFMessage)."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame_3d import Transform, interpolate
from vps_ros.messages.typestore import nanoseconds, readable
from vps_ros.recording.bag import Bag

TF_TYPE = "tf2_msgs/msg/TFMessage"
_STATIC = "tf_static"
"""Last part of the names of topics whose transforms are valid at all times."""
_WIDTH = 7
"""Numbers of a transform: translation and quaternion."""


class BagTransforms:
    """Transforms to one coordinate frame at the stamps of frames, with the rules of tf2.

    Between two messages, the translation is interpolated linearly and the rotation along the shortest arc. Before the
    first and after the last message there is no transform. The bag is read as far as the transforms that were asked for
    need it.

    Args:
        path: of the bag.
        frame_id: the frame to which transforms lead.

    Raises InputError if the bag has no TF.
    """

    def __init__(self, path: str | Path, frame_id: str) -> None:
        self._bag, self._target = Bag(path), _plain(frame_id)
        topics = [topic.name for topic in self._bag.topics if topic.type == TF_TYPE]
        if not topics:
            self.close()
            raise InputError(
                f"{path}: has no topic of TF ({TF_TYPE}), so that the frame {frame_id} is unknown; record /tf and "
                "/tf_static, or take the frame of the camera"
            )
        self._messages = readable(self._bag.messages(topics, [TF_TYPE]))
        self._edges: dict[str, _Edge] = {}

    def __enter__(self) -> BagTransforms:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        self._bag.close()

    def __call__(self, source: str, stamp: int) -> Transform:
        """From the frame `source` at a stamp in nanoseconds.

        Raises DroppedFrame if it is not known at the stamp, and InputError if the bag has no such target frame.
        """
        source = _plain(source)
        while True:
            try:
                return self._look_up(source, stamp)
            except DroppedFrame:
                if self._read():
                    continue
                known = {*self._edges, *(name for edge in self._edges.values() for name in edge.parents)}
                if self._target not in known:
                    names = ", ".join(sorted(known)) or "none"
                    raise InputError(
                        f"{self._bag.path}: TF has no frame {self._target!r}; its frames are {names}"
                    ) from None
                raise

    def _read(self) -> bool:
        """Adds the transforms of the next message that can be read; false at the end of the bag."""
        for message, content in self._messages:
            static = message.topic.rpartition("/")[2] == _STATIC
            for one in content.transforms:
                move, turn = one.transform.translation, one.transform.rotation
                values = np.array([move.x, move.y, move.z, turn.x, turn.y, turn.z, turn.w])
                length = np.linalg.norm(values[3:])
                parent, child = _plain(one.header.frame_id), _plain(one.child_frame_id)
                # As tf2, without transforms that cannot be.
                if np.isfinite(values).all() and length > 0 and parent and child and parent != child:
                    values[3:] /= length
                    self._edges.setdefault(child, _Edge()).add(nanoseconds(one.header.stamp), parent, values, static)
            return True
        return False

    def _look_up(self, source: str, stamp: int) -> Transform:
        """Through the first frame that is above both in the tree of frames."""
        above, problem = self._ancestors(source, stamp, until=self._target)
        if self._target in above:
            return above[self._target]
        others, other_problem = self._ancestors(self._target, stamp, until=source)
        for name, transform in others.items():
            if name in above:
                return transform.inverse() @ above[name]
        reason = problem or other_problem or "TF does not connect them"
        raise DroppedFrame(f"no transform from {source!r} to {self._target!r}: {reason}")

    def _ancestors(self, name: str, stamp: int, until: str) -> tuple[dict[str, Transform], str]:
        """The transforms from a frame to itself and to those above it, and why there are no further ones."""
        found = {name: Transform()}
        while name != until and name in self._edges:
            try:
                parent, transform = self._edges[name].at(stamp)
            except DroppedFrame as error:
                return found, f"{name!r} is {error}"
            if parent in found:
                return found, f"TF has a loop at {parent!r}"
            found[parent] = transform @ found[name]
            name = parent
        return found, ""


@dataclass
class _Edge:
    """The transforms from one frame to its parent, by their stamps.

    Attributes:
        stamps: nanoseconds, ascending.
        values: _WIDTH numbers of each.
        parents: of each.
        static: only the last one, at all times.
    """

    stamps: array = field(default_factory=lambda: array("q"))
    values: array = field(default_factory=lambda: array("d"))
    parents: list[str] = field(default_factory=list)
    static: bool = False

    def add(self, stamp: int, parent: str, values: np.ndarray, static: bool) -> None:
        if static or self.static:
            self.static = static
            self.stamps, self.values, self.parents = array("q"), array("d"), []
        place = len(self.stamps) if not self.stamps or stamp >= self.stamps[-1] else bisect_right(self.stamps, stamp)
        self.stamps.insert(place, stamp)
        self.values[place * _WIDTH : place * _WIDTH] = array("d", values.tolist())
        self.parents.insert(place, parent)

    def at(self, stamp: int) -> tuple[str, Transform]:
        """The parent and the transform to it; raises DroppedFrame, with the end of a sentence, if there is none."""
        if self.static:
            return self.parents[0], self._one(0)
        after = bisect_left(self.stamps, stamp)
        if after < len(self.stamps) and self.stamps[after] == stamp:
            return self.parents[after], self._one(after)
        if after in (0, len(self.stamps)):
            first, last = (self.stamps[i] / 1e9 for i in (0, -1))
            raise DroppedFrame(f"in TF from {first:.3f} s to {last:.3f} s only")
        before = after - 1
        if self.parents[before] != self.parents[after]:
            return self.parents[before], self._one(before)
        share = (stamp - self.stamps[before]) / (self.stamps[after] - self.stamps[before])
        return self.parents[before], interpolate(self._one(before), self._one(after), share)

    def _one(self, place: int) -> Transform:
        x, y, z, *turn = self.values[place * _WIDTH : (place + 1) * _WIDTH]
        return Transform((x, y, z), (turn[0], turn[1], turn[2], turn[3]))


def _plain(frame_id: str) -> str:
    """Without the slash that frames of old recordings begin with."""
    return frame_id.lstrip("/")
