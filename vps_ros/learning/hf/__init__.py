"""Panoptic checkpoints of transformers as model files of the contract.

checkpoint.py finds the files, families.py knows the five architectures, processor.py reads the input, classes.py the
classes, patches.py makes the networks traceable, model_file.py writes and verifies, decisions.py compares networks that
decide where to look.
"""

from vps_ros.learning.hf.model_file import Report, import_checkpoint

__all__ = ["Report", "import_checkpoint"]
