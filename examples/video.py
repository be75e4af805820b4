"""Track what a film, a folder of images, a bag or a camera shows, and write it as a video.

python examples/video.py drive.mp4 tracked.mp4
python examples/video.py 0 tracked.mp4 300        # 300 images of camera 0
"""

from __future__ import annotations

import sys
from itertools import islice

import vps_ros as vps

source, output, *limit = sys.argv[1:]
pipeline = vps.OnlinePanoptic()
with vps.VideoWriter(output) as out, vps.open_frames(int(source) if source.isdecimal() else source) as frames:
    for frame in islice(frames, int(limit[0]) if limit else None):
        result = pipeline.step(frame)
        for track in result.visible:
            name = result.taxonomy.class_name(track.class_id)
            x0, y0, x1, y1 = (round(v) for v in track.box)
            print(f"{frame.stamp / 1e9:.3f} s: {name} {track.track_id} at {x0},{y0} to {x1},{y1}")
        out.write(vps.draw(frame, result))
