"""A small model adapted to unlabelled recordings, by labels of a teacher (docs/adapt.md)."""
