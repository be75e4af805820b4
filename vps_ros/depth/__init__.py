"""Objects in 3D: position, size and velocity of tracked objects from a registered depth image."""
