"""Measure your own masks: two folders with one .npz for each frame, in the order of their names.

    python examples/evaluate_masks.py truth/ predicted/

Each file holds `class_map` uint8 [H, W] (255 void) and `track_map` [H, W] (identity of the object, 0 for stuff), as
    np.savez_compressed(file, class_map=result.class_map, track_map=result.track_map)
writes them for a result of this library.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import vps_ros as vps

CLASSES = vps.Taxonomy.from_names(["road", "sky", "car"], stuff=["road", "sky"])

truth, predicted = (sorted(Path(folder).glob("*.npz")) for folder in sys.argv[1:])
if not truth or [file.name for file in truth] != [file.name for file in predicted]:
    sys.exit("give two folders that hold .npz files of the same names")
evaluator = vps.Evaluator(CLASSES)
for gt_file, file in zip(truth, predicted, strict=True):
    gt, own = np.load(gt_file), np.load(file)
    maps = gt["class_map"], gt["track_map"], own["class_map"], own["track_map"]
    evaluator.update("drive", *maps, gt_where=gt_file, pred_where=file)
report = evaluator.result()
print(f"STQ {report.stq:.4f}  AQ {report.aq:.4f}  SQ {report.sq:.4f}  mIoU {report.miou:.4f}")
for name, of_class in report.classes.items():
    print(f"{name}: PQ {of_class.pq:.4f}  IoU {of_class.iou:.4f}")
