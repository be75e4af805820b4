"""Images and PanopticFrames to ROS messages and back; independent of the transport."""
