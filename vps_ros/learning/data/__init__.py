"""Labelled frames to learn from: sources, augmentation, batches, targets."""
