"""Evidence that gives things their identities: each stage pairs what the stages before it left over."""

from vps_ros.trackers.stages.appearance import AppearanceStage
from vps_ros.trackers.stages.boxes import BoxStage
from vps_ros.trackers.stages.contract import Stage
from vps_ros.trackers.stages.masks import MaskStage
from vps_ros.trackers.stages.memory import MemoryStage
from vps_ros.trackers.stages.pair import PairStage
from vps_ros.trackers.stages.quasi_dense import QuasiDense
from vps_ros.trackers.stages.whole import WholeStage

__all__ = ["AppearanceStage", "BoxStage", "MaskStage", "MemoryStage", "PairStage", "QuasiDense", "Stage", "WholeStage"]
