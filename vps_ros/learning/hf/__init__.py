"""Import of checkpoints of transformers for panoptic, semantic and instance segmentation.

checkpoint.py finds the files, families.py describes the architectures, their tasks and their input, classes.py
determines the classes, export.py writes the model file and verifies it.
"""

from vps_ros.learning.hf.export import Report, import_checkpoint

__all__ = ["Report", "import_checkpoint"]
