"""Overlays, video and plots."""
