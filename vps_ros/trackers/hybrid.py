"""HybridTracker (Ye et al.): its pixel tracker, its instance tracker, and both as one."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.frame import AssociatedBy
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.learned import learned_for
from vps_ros.trackers.pairwise import Evidence, FusedEvidence, InstanceEvidence, PixelEvidence
from vps_ros.trackers.stages import PairStage


def pixel(config: Config) -> Tracker:
    """Dice of masks moved by optical flow (III-C)."""
    return _tracker(config, PixelEvidence(parts.flow(config)), config.pixel_threshold, AssociatedBy.PIXELS)


def instance(config: Config) -> Tracker:
    """Softmax over products of learned embeddings (III-B)."""
    return _tracker(config, InstanceEvidence(learned_for(config)), config.instance_threshold, AssociatedBy.INSTANCE)


def hybrid(config: Config) -> Tracker:
    """Both matrices, fused by the learned 1x1 convolution (III-D)."""
    learned = learned_for(config)
    fused = FusedEvidence(PixelEvidence(parts.flow(config)), InstanceEvidence(learned), learned.fusion)
    return _tracker(config, fused, config.instance_threshold, AssociatedBy.INSTANCE)


def _tracker(config: Config, matrices: Evidence, threshold: float, evidence: AssociatedBy) -> Tracker:
    described = evidence == AssociatedBy.INSTANCE
    stages = [PairStage(matrices, 1, threshold, evidence=evidence)]
    if config.temporal_consistency:
        stages.append(PairStage(matrices, 2, config.temporal_threshold, back=True, evidence=evidence))
    return CascadeTracker(
        stages,
        parts.memory(config),
        parts.lifecycle(config),
        matrices,
        uses_embeddings=described,
        needs_embeddings=described,
    )
