"""From a recording to reviewed labels: sparse labels, edits, propagation to every frame, export (docs/label.md)."""
