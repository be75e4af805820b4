"""Trackers measured side by side on the same segmentations."""
