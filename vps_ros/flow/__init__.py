"""Two images -> dense optical flow."""
