"""HiLA-MB, the location-aware memory buffer of Video-kMaX (Shin et al., section 3.2), and its two halves (table 5b).

The video stitching of the paper needs clips with overlapping frames: there, `Tracker` matches tubes before it
calls `associate` (near-online). Online, it is left out (section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.parameters import Parameters, fraction, parameter
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.detections import Detections, norms
from vps_ros.trackers.similarity import appearance_similarity, location_similarity
from vps_ros.trackers.tracker import Matches, Tracker, TrackerParameters, matched, memory_tau


@dataclass(frozen=True)
class LocationTerms(Parameters):
    """Parameters of the location similarity, equations 4 and 5."""

    location_temperature: float = parameter(
        1.0,
        "squared distance of boxes, in image sizes, at which the location similarity is 1/e; T",
        low=1e-6,
        high=1e6,
        live=True,
        source="Video-kMaX table 8",
    )
    velocity_weight: float = parameter(
        1.0,
        "weight of the newest velocity in a track's moving average; 1: the last two boxes alone",
        low=0.01,
        high=1,
        live=True,
        source="Video-kMaX equation 4: the last two boxes",
    )


@dataclass(frozen=True)
class AppearanceTerms(Parameters):
    """Parameters of the appearance memory, equation 3."""

    appearance_weight: float = fraction(
        0.8, "weight of the newest embedding in a track's moving average; lambda", "Video-kMaX equation 3, table 9"
    )


_ALPHA = "least similarity of a detection and a track in memory; alpha"


@dataclass(frozen=True)
class LocationParameters(LocationTerms, TrackerParameters):
    """Parameters of the location-aware memory without appearance."""

    location_threshold: float = fraction(
        0.7, "least location similarity of a detection and a track; alpha", "Video-kMaX table 7: alpha of HiLA-MB"
    )
    memory_tau: float = memory_tau(10.0, "Video-kMaX table 7: tau of HiLA-MB")


@dataclass(frozen=True)
class AppearanceParameters(AppearanceTerms, TrackerParameters):
    """Parameters of the naive memory buffer."""

    memory_threshold: float = fraction(0.8, _ALPHA, "Video-kMaX table 7: alpha of naive-MB")
    memory_tau: float = memory_tau(1.0, "Video-kMaX tables 6 and 7: tau of naive-MB")


@dataclass(frozen=True)
class HilaMbParameters(LocationTerms, AppearanceTerms, TrackerParameters):
    """Parameters of HiLA-MB."""

    memory_threshold: float = fraction(0.7, _ALPHA, "Video-kMaX table 7: alpha of HiLA-MB")
    location_threshold: float = fraction(
        0.7,
        "least location similarity where no appearance is known",
        "alpha again: in Video-kMaX the appearance is always known",
    )
    memory_tau: float = memory_tau(10.0, "Video-kMaX table 7: tau of HiLA-MB")


class Location(Tracker):
    """The location-aware memory without appearance: location alone decides."""

    Parameters = LocationParameters

    def associate(self, detections: Detections, stamp: int) -> Matches:
        p = self.parameters
        # Predict the box of each track at constant velocity (equation 4).
        predicted = self.memory.predict(stamp)
        # Location similarity (equation 5, first factor) of pairs of one class.
        location = location_similarity(detections.boxes, predicted, p.location_temperature)
        k, m = np.nonzero((location > p.location_threshold) & self._comparable(detections).T)
        # Optimal one-to-one assignment within each class.
        similarity = location[k, m]
        best = hungarian(k, m, similarity, detections.class_ids[k])
        return matched(m[best], k[best], similarity[best], AssociatedBy.MEMORY)


class Appearance(Tracker):
    """The naive memory buffer: the cosine of appearances alone decides."""

    Parameters = AppearanceParameters
    uses_embeddings = needs_embeddings = True

    def associate(self, detections: Detections, stamp: int) -> Matches:
        stored, seen = self.memory.embeddings, detections.embeddings
        if stored is None or seen is None or stored.shape[1] != seen.shape[1]:
            return Matches()
        # Cosine with the moving average (equation 3); a track of unknown appearance is paired with no detection.
        scale = norms(stored)[:, None] * detections.norms
        cosine = stored @ seen.T
        cosine = np.divide(cosine, scale, out=np.zeros_like(scale), where=scale > 0)
        m, k = np.nonzero((cosine > self.parameters.memory_threshold) & self._comparable(detections))
        best = hungarian(m, k, cosine[m, k])
        return matched(m[best], k[best], cosine[m, k][best], AssociatedBy.MEMORY)


class HilaMb(Tracker):
    """HiLA-MB: the product of appearance and location similarity decides (equations 3 to 5)."""

    Parameters = HilaMbParameters
    uses_embeddings = True

    def associate(self, detections: Detections, stamp: int) -> Matches:
        memory, p = self.memory, self.parameters
        # Predict the box of each track at constant velocity (equation 4).
        predicted = memory.predict(stamp)
        # Location similarity (equation 5, first factor). The appearance similarity is at most 1, so pairs that are
        # below both thresholds here stay below them.
        location = location_similarity(detections.boxes, predicted, p.location_temperature)
        near = location > min(p.memory_threshold, p.location_threshold)
        k, m = np.nonzero(near & self._comparable(detections).T)
        similarity, threshold = location[k, m], p.location_threshold
        # Appearance similarity with the moving average of equation 3 (equation 5, second factor).
        seen, stored = detections.embeddings, memory.embeddings
        if seen is not None and stored is not None and seen.shape[1] == stored.shape[1]:
            seen_norms, stored_norms = detections.norms, norms(stored)
            similarity = similarity * appearance_similarity(seen, seen_norms, stored, stored_norms, (k, m))
            known = (seen_norms[k] > 0) & (stored_norms[m] > 0)
            threshold = np.where(known, p.memory_threshold, p.location_threshold)
        good = similarity > threshold
        k, m, similarity = k[good], m[good], similarity[good]
        # Optimal one-to-one assignment within each class.
        best = hungarian(k, m, similarity, detections.class_ids[k])
        return matched(m[best], k[best], similarity[best], AssociatedBy.MEMORY)
