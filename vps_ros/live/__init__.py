"""The node beside a camera: one worker and one node for every transport, and DDS as the transport without ROS."""
