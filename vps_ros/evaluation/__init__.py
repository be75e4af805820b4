"""Metrics of video panoptic segmentation."""

from vps_ros.evaluation.evaluator import Evaluator
from vps_ros.evaluation.results import FrameQuality, Report

__all__ = ["Evaluator", "FrameQuality", "Report"]
