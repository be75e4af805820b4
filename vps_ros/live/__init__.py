"""What runs beside a camera: one worker for every transport, and DDS without ROS."""
