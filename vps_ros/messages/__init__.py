"""PanopticFrame <-> ROS messages; images <-> arrays; knows no transport."""
