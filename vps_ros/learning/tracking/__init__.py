"""Training of what the trackers learn: match scorer, embedding head and fusion."""
