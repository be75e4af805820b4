"""Overlays, video and contact sheets."""
