"""HybridTracker (Ye et al.): its pixel tracker, its instance tracker, and both as one."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.frame import AssociatedBy
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.learned import learned_for
from vps_ros.trackers.lifecycle import Lifecycle
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.pairwise import Evidence, FusedEvidence, InstanceEvidence, PixelEvidence
from vps_ros.trackers.stages import PairStage


def pixel(config: Config) -> Tracker:
    """Dice of masks moved by optical flow (III-C)."""
    return _tracker(config, PixelEvidence(parts.flow(config)), "pixel_threshold", AssociatedBy.PIXELS)


def instance(config: Config) -> Tracker:
    """Softmax over products of learned embeddings (III-B)."""
    return _tracker(config, InstanceEvidence(learned_for(config)), "instance_threshold", AssociatedBy.INSTANCE)


def hybrid(config: Config) -> Tracker:
    """Both matrices, fused by the learned 1x1 convolution (III-D)."""
    learned = learned_for(config)
    fused = FusedEvidence(PixelEvidence(parts.flow(config)), InstanceEvidence(learned), learned.fusion)
    return _tracker(config, fused, "instance_threshold", AssociatedBy.INSTANCE)


def _tracker(config: Config, matrices: Evidence, threshold: str, evidence: AssociatedBy) -> Tracker:
    """`threshold` names the parameter that is the first stage's."""
    described = evidence == AssociatedBy.INSTANCE

    def ways(config: Config) -> tuple[list[PairStage], Lifecycle]:
        stages = [PairStage(matrices, 1, getattr(config, threshold), evidence=evidence)]
        if config.temporal_consistency:
            stages.append(PairStage(matrices, 2, config.temporal_threshold, back=True, evidence=evidence))
        return stages, parts.lifecycle(config)

    return CascadeTracker(ways, config, Memory(), matrices, uses_embeddings=described, needs_embeddings=described)
