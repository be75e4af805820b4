"""Backbones and the pixel decoder that several networks share."""
