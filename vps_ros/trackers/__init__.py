"""Segmentation -> identities."""
