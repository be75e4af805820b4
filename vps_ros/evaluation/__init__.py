"""Metrics of video panoptic segmentation."""
