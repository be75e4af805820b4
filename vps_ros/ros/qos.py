"""Quality of service: the node's profiles, and in words why two sides do not meet."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from vps_ros.config import LiveConfig

_FEW = 10


def of_images(live: LiveConfig) -> QoSProfile:
    """For a camera's images, as the parameters have it."""
    return QoSProfile(depth=live.depth, reliability=ReliabilityPolicy[live.reliability.upper()])


def of_outputs() -> QoSProfile:
    """Reliable, which suits every subscriber, and never more than the last few."""
    return QoSProfile(depth=_FEW, reliability=ReliabilityPolicy.RELIABLE)


def of_labels() -> QoSProfile:
    """For what is said once: whoever comes later gets it too."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def mismatch(offered: QoSProfile, asked: QoSProfile) -> str:
    """What each side has and what to set, where a publisher offers less than a subscriber asks for; "" where not."""
    found, why = qos_check_compatible(offered, asked)
    if found != QoSCompatibility.ERROR:
        return ""
    advice = []
    if offered.reliability == ReliabilityPolicy.BEST_EFFORT and asked.reliability == ReliabilityPolicy.RELIABLE:
        advice.append("reliability best_effort")
    if offered.durability == DurabilityPolicy.VOLATILE and asked.durability == DurabilityPolicy.TRANSIENT_LOCAL:
        advice.append("durability volatile")
    what = f"set {' and '.join(advice)} for the subscriber" if advice else why.removeprefix("ERROR: ")
    return f"the publisher offers {_shown(offered)}; the subscriber asks for {_shown(asked)}; {what}"


def _shown(profile: QoSProfile) -> str:
    return f"{profile.reliability.name.lower()}, {profile.durability.name.lower()}"
