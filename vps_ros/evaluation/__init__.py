"""Metrics of video panoptic segmentation."""

from vps_ros.evaluation.evaluator import Evaluator, FrameQuality, Report

__all__ = ["Evaluator", "FrameQuality", "Report"]
