"""Track one camera of a bag with a longer memory, count objects by class, and write the results as a bag.

python examples/bag.py drive.mcap tracked.mcap [/front/image_raw]
"""

from __future__ import annotations

import sys
from collections import Counter

import vps_ros as vps

source, output, *topic = sys.argv[1:]
pipeline = vps.OnlinePanoptic(vps.Config(memory_tau=20.0))
class_of: dict[int, str] = {}
with vps.BagWriter(output) as out, vps.open_frames(source, topic=topic[0] if topic else None) as frames:
    for frame in frames:
        try:
            result = pipeline.step(frame)
        except vps.DroppedFrame as reason:
            print(f"skipped: {reason}", file=sys.stderr)
            continue
        for track in result.visible:
            if track.state == vps.TrackState.CONFIRMED:
                class_of[track.track_id] = result.taxonomy.class_name(track.class_id)
        out.write_frame(result, result.taxonomy)
for name, count in Counter(class_of.values()).most_common():
    print(f"{name}: {count}")
