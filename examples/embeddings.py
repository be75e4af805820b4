"""Read the appearance of objects: which pairs of objects look alike, by the cosine of their mean embeddings.

python examples/embeddings.py drive.mp4
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import combinations

import numpy as np

import vps_ros as vps

pipeline = vps.OnlinePanoptic()
vectors: dict[int, list[np.ndarray]] = defaultdict(list)
for frame in vps.open_frames(sys.argv[1]):
    result = pipeline.step(frame)
    # None where the model has no query embeddings. Otherwise one row for each of result.segments.
    if result.embeddings is not None:
        for track in result.visible:
            vectors[track.track_id].append(result.embeddings[track.index])

print(f"{len(vectors)} objects")
means = {track_id: np.mean(rows, axis=0) for track_id, rows in vectors.items()}
for a, b in combinations(means, 2):
    cosine = means[a] @ means[b] / (np.linalg.norm(means[a]) * np.linalg.norm(means[b]))
    print(f"{a} {b} {cosine:.3f}")
