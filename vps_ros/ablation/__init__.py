"""Comparison of trackers on the same segmentations."""
