"""A tracker of your own: each object takes the identity of the nearest remembered one, if that is near enough.

python examples/custom_tracker.py drive.mp4
"""

import sys

import numpy as np

import vps_ros as vps
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.tracker import Matches, matched


class NearestTracker(vps.Tracker):
    """Boxes are x0 y0 x1 y1, in shares of the image's width and height."""

    def associate(self, detections: Detections, stamp: int) -> Matches:
        distance = np.abs(self.memory.predict(stamp)[:, None] - detections.boxes[None]).max(2)
        tracks, found = np.nonzero(distance < 0.05)
        scores = 1 - distance[tracks, found]
        best = hungarian(tracks, found, scores)
        return matched(tracks[best], found[best], scores[best], vps.AssociatedBy.MEMORY)


pipeline = vps.OnlinePanoptic(tracker=NearestTracker())
for frame in vps.open_frames(sys.argv[1]):
    print([track.track_id for track in pipeline.step(frame).visible])
