"""Overlays, colours, video and contact sheets."""
