"""Models, losses, training and export; the only folder that imports torch."""
