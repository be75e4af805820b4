"""What every tracker does."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vps_ros.config import Config
from vps_ros.frame import Frame, Segmentation, Track


class Tracker(ABC):
    """Gives the thing segments of each frame their identities; stuff is not tracked.

    Attributes:
        flow_milliseconds: time of the optical flow within the last step; 0 where there was none.
        candidates: pairs of a remembered object and a thing that the last step compared, summed over its stages; the
            size of the matching space of Video-kMaX table 6.
    """

    flow_milliseconds: float = 0.0
    candidates: int = 0

    @abstractmethod
    def step(self, frame: Frame, segmentation: Segmentation) -> tuple[Track, ...]:
        """Every live track after this frame, by id: the seen ones and the remembered ones (index -1, state LOST).

        Each thing segment of the frame has exactly one track. Frames come in the order of the camera. Raises
        InputError when more objects are remembered than a panoptic map has numbers for.
        """

    @abstractmethod
    def configure(self, config: Config) -> None:
        """Takes over the live parameters of a settled `config` from the next frame on; no object is forgotten."""

    @abstractmethod
    def reset(self) -> None:
        """Forgets every object; ids go on, so that none is used twice within a run."""
