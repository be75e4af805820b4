"""A tracker of your own: each object takes the identity of the nearest one of the last frame, if that is near enough.

python examples/custom_tracker.py drive.mp4
"""

import sys

import numpy as np

import vps_ros as vps


class NearestTracker(vps.Tracker):
    tracks: list[vps.Track] = []
    count = 0

    def step(self, frame: vps.Frame, segmentation: vps.Segmentation) -> tuple[vps.Track, ...]:
        free, now, self.tracks = list(self.tracks), frame.stamp, []
        for i in np.flatnonzero(segmentation.is_thing).tolist():
            box, area = tuple(segmentation.boxes[i].tolist()), int(segmentation.areas[i])
            distances = [np.abs(np.subtract(track.box, box)).max() for track in free]
            if distances and min(distances) < 0.05 * frame.image.shape[1]:
                track = free.pop(int(np.argmin(distances)))
            else:
                self.count += 1
                what = (i, int(segmentation.class_ids[i]), float(segmentation.scores[i]))
                how = (vps.TrackState.CONFIRMED, vps.AssociatedBy.NEW, 0.0)
                track = vps.Track(self.count, self.count, *what, *how, box, (0.0, 0.0), area, now, now, hits=0)
            self.tracks.append(track._replace(index=i, box=box, area=area, last_seen=now, hits=track.hits + 1))
        return tuple(self.tracks)

    def reset(self) -> None:
        self.tracks = []

    def configure(self, config: vps.Config) -> None: ...


pipeline = vps.OnlinePanoptic(tracker=NearestTracker())
for frame in vps.open_frames(sys.argv[1]):
    print([track.track_id for track in pipeline.step(frame).visible])
